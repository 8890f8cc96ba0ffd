"""Which method handles a message: the names, who may reach them, and a table per class that remembers."""

import inspect
from collections.abc import Awaitable, Mapping
from typing import Any, Literal

from sealane.consumers.overrides import is_coroutine_method, is_framework
from sealane.exceptions import MessageWithoutType, UnhandledMessage
from sealane.types import Message

__all__ = ["ENDINGS", "HandlerTable", "Source", "get_handler_name"]

# Events that only a server may send. A consumer's own methods of these names are reached from the client's side only.
_SERVER_EVENTS = frozenset(
    {
        "websocket_connect",
        "websocket_receive",
        "websocket_disconnect",
        "http_request",
        "http_disconnect",
        "lifespan_startup",
        "lifespan_shutdown",
    }
)

#: The last event of a client. ``names`` lacks it, so that it takes the path on which the end is seen to.
ENDINGS = frozenset({"websocket_disconnect", "http_disconnect"})

# The one event of the server protocol that a channel layer may send: a frame that is ready to go out.
_FORWARDED = frozenset({"websocket_send"})

# Methods of the framework that came after handlers of these names had been written: a class that defines one keeps it.
_YIELDING = frozenset({"reject", "retry"})

#: Where a message came from.
Source = Literal["client", "layer"]


def get_handler_name(message: Mapping[str, Any]) -> str:
    """Return the name of the method that handles a message: ``chat.message`` becomes ``chat_message``.

    Raises :exc:`~sealane.exceptions.MessageWithoutType` (a ValueError) where there is no string ``type``, and
    ValueError for a type with a leading underscore.
    """
    kind = message.get("type")
    if not isinstance(kind, str):
        raise MessageWithoutType("the consumer", "client", list(message))
    name = kind.replace(".", "_")
    if name.startswith("_"):
        raise ValueError(f"Malformed type in message (leading underscore): {kind!r}")
    return name


class HandlerTable:
    """The handlers of one consumer class, for one source, by message type.

    The work of deciding is done on the first message of a type and never again. The table keeps the method's name
    rather than the function, so that a method patched later, as tests do, is the one that is called. Types without a
    handler are not remembered: what strangers send must not fill the memory.
    """

    __slots__ = ("_consumer", "_coroutines", "_others", "_source", "names")

    def __init__(self, consumer: type, source: Source, *, coroutines: bool) -> None:
        self._consumer = consumer
        self._source = source
        self._coroutines = coroutines
        #: Message type -> method name, for the types met so far whose handlers may be called without more ado: they are
        #: coroutine functions, so that the call alone runs none of their code, or of a consumer that is synchronous.
        self.names: dict[str, str] = {}
        self._others: dict[str, str] = {}

    def resolve(self, message: Message) -> str:
        """Return the method name for a message, or raise the named error that says why there is none."""
        kind = message.get("type") if isinstance(message, dict) else None
        if not isinstance(kind, str):
            keys = list(message) if isinstance(message, dict) else []
            raise MessageWithoutType(self._consumer.__name__, self._source, keys)
        known = self.names.get(kind) or self._others.get(kind)
        if known is not None:
            return known
        name = kind.replace(".", "_")
        problem = self._problem(name)
        if problem is not None:
            raise UnhandledMessage(self._consumer.__name__, self._source, kind, problem)
        is_direct = name not in ENDINGS and self._is_direct(getattr(self._consumer, name))
        (self.names if is_direct else self._others)[kind] = name
        return name

    def knows(self, message: Message) -> bool:
        """Tell whether a message of this type was resolved before."""
        kind = message.get("type")
        return kind in self.names or kind in self._others

    def lacks(self, message: Message) -> bool:
        """Tell whether the class has nothing of the name that a message asks for, and the source may ask for it."""
        kind = message.get("type") if isinstance(message, dict) else None
        if not isinstance(kind, str) or self.knows(message):
            return False
        name = kind.replace(".", "_")
        if name.startswith("_") or (self._source == "layer" and name in _SERVER_EVENTS):
            return False
        return not hasattr(self._consumer, name)

    def begin(self, consumer: object, name: str, message: Message) -> Awaitable[None]:
        """Call a method of an asynchronous consumer. Return what is to be awaited, or raise the named error.

        A plain function that returns an awaitable is a handler too; whether it does is known when it has run.
        """
        handling: Awaitable[None] = getattr(consumer, name)(message)
        if not inspect.isawaitable(handling):
            problem = f"{name}() must be a coroutine function (async def)"
            raise UnhandledMessage(self._consumer.__name__, self._source, message["type"], problem)
        return handling

    def _is_direct(self, method: Any) -> bool:
        return not self._coroutines or inspect.iscoroutinefunction(method) or is_framework(method.__module__)

    def _problem(self, name: str) -> str | None:
        if name.startswith("_"):
            return "Malformed type in message (leading underscore)"
        if self._source == "layer" and name in _SERVER_EVENTS:
            return "only the server may send it, not a channel layer"
        if not hasattr(self._consumer, name):
            return f"it has no method {name}()"
        method = getattr(self._consumer, name)
        if not callable(method) or isinstance(method, type):
            return f"its attribute {name!r} is not a method"
        allowed = _SERVER_EVENTS if self._source == "client" else _FORWARDED
        if name not in allowed and self._belongs_to_framework(name):
            return f"{name}() is a method of the framework, not a handler"
        if not self._coroutines and is_coroutine_method(self._consumer, name):
            return f"{name}() must be a plain function"
        is_bound = isinstance(inspect.getattr_static(self._consumer, name), staticmethod | classmethod)
        try:
            inspect.signature(method).bind(*([None] if is_bound else [None, None]))
        except TypeError:
            return f"{name}() does not take exactly one message"
        except ValueError:
            # A descriptor of another library's, which has no signature: what it takes is known when it is called.
            return None
        return None

    def _belongs_to_framework(self, name: str) -> bool:
        definers = [base for base in self._consumer.__mro__ if name in vars(base)]
        if name in _YIELDING:
            definers = definers[:1]
        return any(base is object or is_framework(base.__module__) for base in definers)
