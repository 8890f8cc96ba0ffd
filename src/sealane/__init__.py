"""Consumers, routing and channel layers for Django on ASGI.

``broadcast()`` and ``abroadcast()`` are imported when they are first used: ``import sealane`` alone imports no Django.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sealane.broadcasting import abroadcast, broadcast

__all__ = ["__version__", "abroadcast", "broadcast"]

__version__ = "0.1.0"


if not TYPE_CHECKING:  # where it would give every misspelt name a type

    def __getattr__(name: str) -> Any:
        if name not in ("abroadcast", "broadcast"):
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from sealane import broadcasting

        value = globals()[name] = getattr(broadcasting, name)
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
