"""What a subclass puts in the place of the framework's methods: of the same kind, plain function or coroutine.

A method of the wrong kind fails late and far from its cause. Called without ``await``, a coroutine function does
nothing; awaited, what a plain function returned is a TypeError that names neither the class nor the method.
"""

import functools
import inspect
from collections.abc import Callable, Iterator
from types import FunctionType
from typing import Any

from asgiref.sync import iscoroutinefunction

__all__ = ["is_coroutine_method", "is_framework", "refuse_coroutines", "require_awaitables"]

_FRAMEWORK = __name__.rpartition(".")[0]


def is_framework(module: object) -> bool:
    """Tell whether the ``__module__`` of a class or a function says that it is the framework's own."""
    return isinstance(module, str) and (module == _FRAMEWORK or module.startswith(f"{_FRAMEWORK}."))


def is_coroutine_method(cls: type, name: str) -> bool:
    """Tell whether a method is a coroutine function, or what ``database_sync_to_async`` makes of a plain one."""
    return iscoroutinefunction(_function_of(inspect.getattr_static(cls, name, None)))


def _function_of(method: Any) -> Any:
    """What stands behind an attribute of a class: the function of a class method, a static or a partial one."""
    while True:
        if isinstance(method, classmethod | staticmethod):
            method = method.__func__
        elif isinstance(method, functools.partialmethod):
            method = method.func
        else:
            return method


def refuse_coroutines(cls: type) -> None:
    """Raise TypeError where a synchronous consumer has a coroutine function in the place of a plain one."""
    for name, own, replacement in _overrides(cls):
        if iscoroutinefunction(replacement) and not iscoroutinefunction(own):
            base = next(base.__name__ for base in cls.__mro__ if is_framework(base.__module__))
            raise TypeError(
                f"{cls.__name__}.{name}() is a coroutine function, and {cls.__name__} is a {base}, which is "
                f"synchronous: write a plain function (def {name}), or derive from Async{base.removeprefix('Sync')}"
            )


def require_awaitables(cls: type) -> None:
    """Let a plain function in the place of a coroutine function raise TypeError where it returns no awaitable.

    One that returns an awaitable is as good as a coroutine function, and nobody can tell before it is called.
    """
    for name, own, replacement in _overrides(cls):
        # What a parent of the user's own defines was seen to there.
        attribute = vars(cls).get(name)
        is_plain = inspect.isfunction(replacement) and not iscoroutinefunction(replacement)
        if is_plain and iscoroutinefunction(own) and isinstance(attribute, FunctionType | classmethod | staticmethod):
            checked = _checked(replacement, cls.__name__, name)
            setattr(cls, name, checked if isinstance(attribute, FunctionType) else type(attribute)(checked))


def _checked(function: Callable[..., Any], owner: str, name: str) -> Callable[..., Any]:
    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        result = function(*args, **kwargs)
        if not inspect.isawaitable(result):
            what = "None" if result is None else f"a {type(result).__name__}"
            raise TypeError(
                f"{owner}.{name}() returned {what}, which cannot be awaited, and {owner} is asynchronous: write a "
                f"coroutine function (async def {name})"
            )
        return result

    return call


def _overrides(cls: type) -> Iterator[tuple[str, Any, Any]]:
    """The public functions of the framework that a class, or a parent of the user's own, replaces: name, both."""
    users: dict[str, Any] = {}
    seen: set[str] = set()
    for base in cls.__mro__:
        own = is_framework(base.__module__)
        for name, attribute in vars(base).items():
            if name.startswith("_"):
                continue
            if not own:
                users.setdefault(name, attribute)
            elif name not in seen:
                seen.add(name)
                original = _function_of(attribute)
                if name in users and inspect.isfunction(original):
                    yield name, original, _function_of(users[name])
