"""Applications: none for a path, a scope's type or a channel's name, or one that did not start."""

from collections.abc import Sequence

from sealane.exceptions.base import SealaneError

__all__ = [
    "NoRouteFound",
    "StartupFailed",
    "UnknownChannel",
    "UnknownScopeType",
]


class NoRouteFound(SealaneError, ValueError):
    """No route matches a path, and the router has no ``not_found``."""

    def __init__(self, path: str, tried: Sequence[str]) -> None:
        super().__init__(path, tried)
        self.path = path
        self.tried = tuple(tried)

    def __str__(self) -> str:
        # As routes are written, without the slash. A path comes from anybody, and this text goes into logs.
        path = self.path.lstrip("/")
        path = path if len(path) <= 200 else f"{path[:200]}..."
        routes = ", ".join(repr(route) for route in self.tried) or "none"
        return f"No route found for path {path!r}. Routes tried: {routes}"


class UnknownScopeType(SealaneError, ValueError):
    """A ProtocolTypeRouter has no application for a scope's type."""

    def __init__(self, type: str, known: Sequence[str]) -> None:
        super().__init__(type, known)
        self.type = type
        self.known = tuple(known)

    def __str__(self) -> str:
        known = ", ".join(repr(name) for name in self.known) or "none"
        return f"No application configured for scope type {self.type!r}. Types known: {known}"


class UnknownChannel(SealaneError, ValueError):
    """A ChannelNameRouter has no application for a channel's name."""

    def __init__(self, channel: str, known: Sequence[str]) -> None:
        super().__init__(channel, known)
        self.channel = channel
        self.known = tuple(known)

    def __str__(self) -> str:
        known = ", ".join(repr(name) for name in self.known) or "none"
        return f"No application configured for channel name {self.channel!r}. Channels known: {known}"


class StartupFailed(SealaneError, RuntimeError):
    """The application's lifespan startup failed, so the server did not start. The log has the reason."""

    def __str__(self) -> str:
        return "The application's lifespan startup failed (the reason is logged above)"
