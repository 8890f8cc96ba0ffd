"""TokenAuthMiddleware: the user of a connection by a token, from anywhere but the address."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final

from asgiref.sync import iscoroutinefunction

from sealane.consumers.admission import FORBIDDEN, UNAUTHENTICATED, Refusal, is_logged_in
from sealane.consumers.credentials import CREDENTIALS
from sealane.routing.middleware import BaseMiddleware
from sealane.routing.token_sources import TokenReader, TokenSource
from sealane.types import ASGIApplication, Message, Receive, Scope, Send

__all__ = ["TokenAuthMiddleware", "TokenCredentials"]

logger = logging.getLogger("sealane.routing")

#: Returns the user that a token belongs to, or None.
Verifier = Callable[[str], Awaitable[Any]]

#: A path comes from anybody: no more characters of it than this go into the log.
_LONGEST_PATH: Final = 200


class TokenCredentials:
    """Ask a verifier again whether a token is good. It never shows the token."""

    __slots__ = ("_token", "_verify")

    session_key = None

    def __init__(self, verify: Verifier, token: str) -> None:
        self._verify = verify
        self._token = token

    async def recheck(self) -> Any:
        """Return the token's user, or None where it has none any more."""
        user = await self._verify(self._token)
        return user if is_logged_in(user) and getattr(user, "is_active", True) else None

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"


class TokenAuthMiddleware(BaseMiddleware):
    """Put the user of a token into ``scope["user"]``, for clients that have no session: programs, apps, other sites.

    **The verifier** is yours: ``await verify(token)`` returns the user, or None. The user needs a true
    ``is_authenticated``, and no false ``is_active``. The verifier is called once for each connection, and again by the
    ``revalidate`` of the consumer. What it raises is raised to the server, which answers 500: do not
    put the token into the text.

    **The sources** are tried in order; the first that has a token decides.

    - ``"header"``: ``Authorization: Bearer <token>``, for WebSockets and HTTP requests. Browsers cannot send it with
      a WebSocket.
    - ``"subprotocol"``: ``new WebSocket(url, ["bearer", token])``. The token must be spelled as a subprotocol may be:
      letters, digits and ``!#$%&'*+-.^_`|~``, so base64 in its form for URLs. The application inside sees neither of
      the two among ``scope["subprotocols"]`` nor the header that had them; where it accepts none of the others, the
      answer is ``bearer``, since browsers insist on one. No server ever sends the token back.
    - ``"message"``: the first frame, ``{"token": "..."}`` as JSON. For that the WebSocket is accepted before anything
      is known of it, and the application inside begins when the token was verified. Its own accept is not sent any
      more, so neither are a subprotocol, headers and cookies of it; its refusal becomes a close, with 4000 and the
      status: 4403 for 403.

    There is no query string among them: addresses get into logs, histories and the ``Referer`` header.

    **Refusals.** No token, one that is not good, and one that cannot be read: status 401 before the accept (a server
    without the ``websocket.http.response`` extension answers 403), close 4401 after it. The same for a first frame
    that does not come within ``timeout`` seconds. A token that was refused is one warning on ``sealane.routing``,
    without the token; no token is none.

    With ``required=False`` a connection without a token passes as it is, so that an ``AuthMiddlewareStack`` inside
    can look for a session. A user who is logged in already, by a middleware outside, stays and
    is not asked for a token; a lifespan scope passes. Cancellation passes through.
    """

    def __init__(
        self,
        inner: ASGIApplication,
        verify: Verifier,
        *,
        sources: Iterable[TokenSource] = ("header", "subprotocol"),
        required: bool = True,
        scheme: str = "Bearer",
        subprotocol: str = "bearer",
        timeout: float = 10.0,
        max_length: int = 8192,
    ) -> None:
        """Take the application inside and the verifier.

        scheme: the word before the token in the header, in any case.
        subprotocol: the word before the token among the subprotocols.
        timeout: seconds that a client has for its first message.
        max_length: the most characters that a token, or a first message, may have.

        Raises TypeError for a verifier that is not a coroutine function, ValueError for sources that there are not.
        """
        super().__init__(inner)
        if not callable(verify) or not (iscoroutinefunction(verify) or iscoroutinefunction(type(verify).__call__)):
            raise TypeError(
                f"TokenAuthMiddleware takes a verifier that is a coroutine function (async def verify(token)), not "
                f"{verify!r}; wrap one that uses the database in database_sync_to_async"
            )
        self.verify = verify
        self.reader = TokenReader(sources, scheme=scheme, subprotocol=subprotocol, max_length=max_length)
        if "message" in self.reader.sources and not required:
            raise ValueError(
                "TokenAuthMiddleware cannot wait for a first message with a token that is not required: nobody could "
                "tell whether one is still to come. Leave out 'message', or required=False"
            )
        self.required = required
        self.timeout = timeout

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope = dict(scope)
        if scope.get("type") not in ("http", "websocket") or is_logged_in(scope.get("user")):
            await self.inner(scope, receive, send)
            return
        found = self.reader.in_scope(scope)
        if found.token is None and found.problem is None:
            if "message" in self.reader.sources and scope["type"] == "websocket":
                await self._wait_for_message(scope, receive, send)
                return
            if not self.required:
                await self.inner(scope, receive, send)
                return
        problem = found.problem
        if found.token is not None:
            problem = await self._identify(scope, found.token)
            if problem is None:
                if found.source == "subprotocol":
                    send = _Answering(send, self.reader.subprotocol)
                await self.inner(scope, receive, send)
                return
        if problem is not None:
            _log(scope, problem)
        await _refuse(scope, receive, send, self.reader.scheme, invalid=problem is not None)

    async def _identify(self, scope: Scope, token: str) -> str | None:
        """Put the token's user into the scope; return why there is none."""
        credentials = TokenCredentials(self.verify, token)
        user = await credentials.recheck()
        if user is None:
            return "the token is not valid"
        scope["user"] = user
        scope[CREDENTIALS] = credentials
        return None

    async def _wait_for_message(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Accept, take the token from the first frame, and run the application inside behind the accept."""
        first = await receive()
        if first["type"] != "websocket.connect":
            return
        if not await _sent(send, {"type": "websocket.accept"}):
            return
        try:
            async with asyncio.timeout(self.timeout):
                message = await receive()
        except TimeoutError:
            problem: str | None = f"no token came within {self.timeout:g} seconds"
        else:
            if message["type"] != "websocket.receive":
                return  # the client has left
            found = self.reader.in_message(message)
            problem = found.problem if found.token is None else await self._identify(scope, found.token)
        if problem is None:
            await self.inner(scope, _Replaying(first, receive), _Accepted(send))
        else:
            _log(scope, problem)
            await _sent(send, _close_of(UNAUTHENTICATED))


class _Replaying:
    """The server's ``receive``, with the handshake once more for who comes later."""

    def __init__(self, first: Message, receive: Receive) -> None:
        self._first: Message | None = first
        self._receive = receive

    async def __call__(self) -> Message:
        first, self._first = self._first, None
        return await self._receive() if first is None else first


class _Answering:
    """The server's ``send``, where an accept must name a subprotocol."""

    def __init__(self, send: Send, subprotocol: str) -> None:
        self._send = send
        self._subprotocol = subprotocol

    def __call__(self, message: Message) -> Awaitable[None]:
        if message["type"] == "websocket.accept" and message.get("subprotocol") is None:
            message = {**message, "subprotocol": self._subprotocol}
        return self._send(message)


class _Accepted:
    """The server's ``send`` of a WebSocket that was accepted before its application began to answer it."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._answered = False

    async def __call__(self, message: Message) -> None:
        if self._answered:
            if message["type"] != "websocket.http.response.body":
                await self._send(message)
            return
        self._answered = True
        match message["type"]:
            case "websocket.accept":
                pass
            case "websocket.close" if message.get("code", 1000) == 1000:
                await self._send({**_close_of(FORBIDDEN), **message, "code": FORBIDDEN.code})
            case "websocket.http.response.start":
                await self._send({"type": "websocket.close", "code": 4000 + message["status"]})
            case _:
                await self._send(message)


def _close_of(refusal: Refusal) -> Message:
    return {"type": "websocket.close", "code": refusal.code, "reason": refusal.reason}


async def _refuse(scope: Scope, receive: Receive, send: Send, scheme: str, *, invalid: bool) -> None:
    """Answer 401, in the words of RFC 6750."""
    first = await receive()
    if first["type"].endswith(".disconnect"):
        return
    challenge = f'{scheme} error="invalid_token"' if invalid else scheme
    body = UNAUTHENTICATED.reason.encode()
    headers = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", str(len(body)).encode()),
        (b"www-authenticate", challenge.encode("latin-1")),
    ]
    prefix = "http" if scope["type"] == "http" else "websocket.http"
    if scope["type"] == "http" or "websocket.http.response" in (scope.get("extensions") or {}):
        start = {"type": f"{prefix}.response.start", "status": UNAUTHENTICATED.status, "headers": headers}
        if await _sent(send, start):
            await _sent(send, {"type": f"{prefix}.response.body", "body": body})
    else:
        await _sent(send, {"type": "websocket.close", "code": UNAUTHENTICATED.code})


async def _sent(send: Send, message: Message) -> bool:
    """Send an event. Returns whether anybody was there."""
    try:
        await send(message)
    except OSError as error:
        logger.debug("A client left before its token was looked at: %s", error)
        return False
    return True


def _log(scope: Scope, problem: str) -> None:
    path = scope.get("path", "")
    shown = path if len(path) <= _LONGEST_PATH else path[:_LONGEST_PATH] + "..."
    logger.warning("Refused a token for %s: %s", shown.encode("unicode_escape").decode("ascii"), problem)
