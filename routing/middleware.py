"""The base of the ASGI middleware that is composed with routers."""

from sealane.types import ASGIApplication, Receive, Scope, Send

__all__ = ["BaseMiddleware"]


class BaseMiddleware:
    """Wrap an ASGI application, and hand it a copy of the scope.

    A subclass overrides ``__call__``, adds what it knows to a copy of the scope, and awaits ``self.inner``::

        class TenantMiddleware(BaseMiddleware):
            async def __call__(self, scope, receive, send):
                tenant = await tenant_of(scope)
                await self.inner({**scope, "tenant": tenant}, receive, send)

    One instance serves every connection at the same time: what belongs to a connection goes into its scope,
    never onto ``self``. A scope is never changed in place, since whoever stands outside still reads it.
    """

    inner: ASGIApplication

    def __init__(self, inner: ASGIApplication) -> None:
        if not callable(inner):
            raise TypeError(
                f"{type(self).__name__} wraps an ASGI application, such as a router or Consumer.as_asgi(), "
                f"not {inner!r}"
            )
        self.inner = inner

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the inner application on a copy of the scope. Its errors and its cancellation pass through."""
        await self.inner(dict(scope), receive, send)

    @property
    def _path_routing(self) -> bool:
        """Whether a router of paths stands inside: an outer router then leaves the rest of the path to it."""
        return bool(getattr(self.inner, "_path_routing", False))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.inner!r})"
