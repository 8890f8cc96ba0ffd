"""Where a connection may bring a token, and how it is read from there: decisions only, no I/O."""

import json
import re
from collections.abc import Iterable
from typing import Literal, NamedTuple, get_args

from sealane.types import Message, Scope

__all__ = ["FoundToken", "TokenReader", "TokenSource"]

TokenSource = Literal["header", "subprotocol", "message"]

# Any visible ASCII: what a header can hold, and what no log line is broken by.
_TOKEN = re.compile(r"[\x21-\x7e]+")


class FoundToken(NamedTuple):
    """What a connection brought along, or why that is no token."""

    token: str | None = None
    problem: str | None = None
    source: TokenSource | None = None


class TokenReader:
    """Read tokens from the sources that a site has chosen. What it says of a problem never holds what came."""

    def __init__(self, sources: Iterable[TokenSource], *, scheme: str, subprotocol: str, max_length: int) -> None:
        """Check the sources; an unknown one, or none, is a ValueError."""
        self.sources: tuple[str, ...] = (sources,) if isinstance(sources, str) else tuple(sources)
        known = get_args(TokenSource)
        if not self.sources or any(source not in known for source in self.sources):
            raise ValueError(f"TokenAuthMiddleware has the sources {self.sources!r}; expected some of {known!r}")
        self.scheme = scheme
        self.subprotocol = subprotocol
        self.max_length = max_length

    def in_scope(self, scope: Scope) -> FoundToken:
        """Look for a token in the scope, and take the one among the subprotocols out of it."""
        for source in self.sources:
            found = FoundToken()
            if source == "header":
                found = self._in_header(scope)
            elif source == "subprotocol" and scope["type"] == "websocket":
                found = self._in_subprotocols(scope)
            if found.token is not None or found.problem is not None:
                return found
        return FoundToken()

    def _in_header(self, scope: Scope) -> FoundToken:
        values = [value for name, value in scope.get("headers", ()) if name == b"authorization"]
        for value in values:
            scheme, _, token = value.decode("latin-1").strip().partition(" ")
            if scheme.lower() == self.scheme.lower():
                if len(values) > 1:
                    return FoundToken(problem="there is more than one Authorization header")
                return self._checked(token.strip(), "header")
        return FoundToken()

    def _in_subprotocols(self, scope: Scope) -> FoundToken:
        offered = list(scope.get("subprotocols") or ())
        if self.subprotocol not in offered:
            return FoundToken()
        place = offered.index(self.subprotocol)
        token = offered[place + 1] if place + 1 < len(offered) else ""
        scope["subprotocols"] = [*offered[:place], *offered[place + 2 :]]
        # Nobody inside shall answer with it, or log it.
        scope["headers"] = [pair for pair in scope.get("headers", ()) if pair[0] != b"sec-websocket-protocol"]
        return self._checked(token, "subprotocol")

    def in_message(self, message: Message) -> FoundToken:
        text = message.get("text")
        if text is None:
            return FoundToken(problem="the first message is not a text frame")
        if len(text) > self.max_length:
            return FoundToken(problem=f"the first message has {len(text)} characters; it may have {self.max_length}")
        try:
            content = json.loads(text)
        except (ValueError, RecursionError):
            return FoundToken(problem='the first message is not JSON; expected {"token": "..."}')
        token = content.get("token") if isinstance(content, dict) else None
        if not isinstance(token, str):
            return FoundToken(problem='the first message has no token; expected {"token": "..."}')
        return self._checked(token, "message")

    def _checked(self, token: str, source: TokenSource) -> FoundToken:
        if not token:
            return FoundToken(problem=f"the {source} names no token")
        if len(token) > self.max_length:
            return FoundToken(problem=f"the {source} has {len(token)} characters; a token may have {self.max_length}")
        if not _TOKEN.fullmatch(token):
            return FoundToken(problem=f"the {source} holds what no token does: a space, or no visible ASCII")
        return FoundToken(token, None, source)
