"""One message on its way: serialized once, opened by each receiver."""

import functools
from collections.abc import Callable
from typing import Final

from sealane.exceptions import UndecodableMessage
from sealane.layers.dead_letters import LETTER, open_letter
from sealane.layers.serializers import SCALARS
from sealane.types import Message

__all__ = ["Parcel"]

#: The template of a parcel that several channels share and nobody has opened yet.
_UNDECIDED: Final[Message] = {}


class Parcel:
    """One serialized message; the members of a group share one."""

    __slots__ = ("data", "expires", "number", "template")

    def __init__(self, data: bytes, expires: float, number: int, shared: bool) -> None:
        self.data = data
        #: When it may no longer be delivered, by the layer's clock.
        self.expires = expires
        #: Its place in the order of everything that was sent.
        self.number = number
        self.template: Message | None = _UNDECIDED if shared else None

    def copier(self, deserialize: Callable[[bytes], Message]) -> Callable[[], Message]:
        """Return what makes a new copy of the message at each call, or raises what ``open()`` does.

        Afterwards ``template`` is a copy that nobody may change, or None where there is no such.
        """
        if self.template is _UNDECIDED:
            try:
                self.open(deserialize)
            except UndecodableMessage:
                self.template = None  # whoever opens it gets the error
        template = self.template
        return functools.partial(self.open, deserialize) if template is None else template.copy

    def open(self, deserialize: Callable[[bytes], Message]) -> Message:
        """Return the message, a new copy at each call. Called without a lock, from any thread.

        Raises UndecodableMessage where the bytes are not those of a message.
        """
        template = self.template
        if template is not None and template is not _UNDECIDED:
            return template.copy()
        try:
            message = deserialize(self.data)
        except Exception as exc:
            if self.data.startswith(LETTER):
                return self._open_letter(deserialize)
            raise UndecodableMessage(f"{type(exc).__name__}: {exc}") from exc
        if not isinstance(message, dict):
            raise UndecodableMessage(f"it is not a dict, but {type(message).__name__}")
        if template is not None:
            # Where no value can be changed, a shallow copy for each further receiver is as good as decoding, and
            # cheaper. Two threads that come here at once do the same twice, which does no harm.
            flat = SCALARS.issuperset(map(type, message.values()))
            self.template = message.copy() if flat else None
        return message

    def _open_letter(self, deserialize: Callable[[bytes], Message]) -> Message:
        try:
            return open_letter(self.data, deserialize)
        except ValueError as exc:
            raise UndecodableMessage(f"a dead letter that is cut: {exc}") from exc
