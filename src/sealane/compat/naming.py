"""Names of objects, for messages."""

from types import FunctionType, MethodType
from typing import Any

__all__ = ["name_that_thing"]


def name_that_thing(thing: Any) -> str:
    """Return the dotted name of a class, a function or a method; of any other object, that of its class."""
    if isinstance(thing, MethodType):
        owner = thing.__self__
        # Of a method of an instance Channels fails to say the name; of a class method it says the class.
        named = owner if isinstance(owner, type) else type(owner)
        return f"{named.__module__}.{named.__name__}"
    if isinstance(thing, FunctionType | type):
        return f"{thing.__module__}.{thing.__name__}"
    return name_that_thing(type(thing))
