"""Route a connection to an application by its protocol; the outermost application of most projects."""

from collections.abc import Iterable, Mapping

from sealane.exceptions import UnknownScopeType
from sealane.routing.application import application_name
from sealane.routing.lifespan import Lifespan, LifespanHook
from sealane.types import ASGIApplication, Receive, Scope, Send

__all__ = ["ProtocolTypeRouter"]


class ProtocolTypeRouter:
    """Hand a scope to the application for its ``type``: ``http``, ``websocket``, ``channel``, ``lifespan``.

    ::

        application = ProtocolTypeRouter(
            {"http": get_asgi_application(), "websocket": URLRouter(routes)},
            on_startup=[warm_caches],
        )

    ``lifespan`` is handled by :class:`~sealane.routing.lifespan.Lifespan` where the mapping has no
    application for it: the channel layers are opened when the server starts and closed when it stops, and the
    hooks run there. Hooks beside a ``lifespan`` application of your own would never run, so that is a
    ValueError.

    The mapping is copied; the copy, with ``lifespan`` in it, is ``application_mapping``. Calling the router
    costs one look into it; errors and cancellation of the application pass through.

    Raises UnknownScopeType, a ValueError naming the types that are known, for any other scope.
    """

    def __init__(
        self,
        application_mapping: Mapping[str, ASGIApplication],
        *,
        on_startup: Iterable[LifespanHook] = (),
        on_shutdown: Iterable[LifespanHook] = (),
    ) -> None:
        self.application_mapping = dict(application_mapping)
        lifespan = Lifespan(on_startup=on_startup, on_shutdown=on_shutdown)
        if self.application_mapping.setdefault("lifespan", lifespan) is not lifespan and lifespan.has_hooks:
            raise ValueError(
                "on_startup and on_shutdown do not run beside a 'lifespan' application of your own. Leave "
                "'lifespan' out of the mapping, or run them there"
            )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        application = self.application_mapping.get(scope["type"])
        if application is None:
            raise UnknownScopeType(scope["type"], sorted(self.application_mapping))
        await application(scope, receive, send)

    def __repr__(self) -> str:
        known = ", ".join(f"{name!r}: {application_name(app)}" for name, app in self.application_mapping.items())
        return f"{type(self).__name__}({{{known}}})"
