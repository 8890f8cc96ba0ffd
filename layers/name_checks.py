"""The calls of a layer that concern names alone, under those of Channels too."""

import warnings
from collections.abc import Sequence
from typing import Any, ClassVar

from sealane.layers import names

__all__ = ["NameChecks"]


class NameChecks:
    """What ``sealane.layers.names`` has, with the length that a layer allows."""

    #: Names are shorter than this, in characters.
    MAX_NAME_LENGTH: ClassVar[int] = names.MAX_NAME_LENGTH

    def require_valid_channel_name(self, name: object, receive: bool = False) -> bool:
        """Return True for a valid channel name, raise InvalidName for another.

        With ``receive``, a name with a ``!`` must end there.
        """
        return names.require_valid_channel_name(name, receive, max_length=self.MAX_NAME_LENGTH)

    def require_valid_group_name(self, name: object) -> bool:
        """Return True for a valid group name, raise InvalidName for another."""
        return names.require_valid_group_name(name, max_length=self.MAX_NAME_LENGTH)

    def match_type_and_length(self, name: object) -> bool:
        """Tell whether a name is a str and short enough."""
        return isinstance(name, str) and len(name) < self.MAX_NAME_LENGTH

    def valid_channel_names(self, names: Sequence[object], receive: bool = False) -> bool:
        """Return True for a list of valid channel names, raise InvalidName for the first that is not.

        Raises TypeError for anything but a list, and ValueError for an empty one.
        """
        if not isinstance(names, list):
            raise TypeError(f"names must be a non-empty list of channel names, not {type(names).__name__}")
        if not names:
            raise ValueError("names must be a non-empty list of channel names, and is empty")
        return all(self.require_valid_channel_name(name, receive) for name in names)

    def valid_channel_name(self, channel_name: object, receive: bool = False) -> bool:
        """Call :meth:`require_valid_channel_name`, and warn that it has this name now."""
        _warn("valid_channel_name", "require_valid_channel_name")
        return self.require_valid_channel_name(channel_name, receive)

    def valid_group_name(self, group_name: object) -> bool:
        """Call :meth:`require_valid_group_name`, and warn that it has this name now."""
        _warn("valid_group_name", "require_valid_group_name")
        return self.require_valid_group_name(group_name)

    def non_local_name(self, name: str) -> str:
        """Return a channel name up to and including its ``!``; a name without one, as it is."""
        return names.non_local_name(name)

    def group_name(self, *parts: Any) -> str:
        """Make one valid group name from parts, such as a model's name and a primary key: see ``names.group_name``."""
        return names.group_name(*parts, max_length=self.MAX_NAME_LENGTH)


def _warn(former: str, current: str) -> None:
    warnings.warn(f"{former}() is deprecated: call {current}()", DeprecationWarning, stacklevel=3)
