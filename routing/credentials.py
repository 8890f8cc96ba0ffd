"""The credentials of a user who came with a session: the session, as its store has it now."""

from types import SimpleNamespace
from typing import Any

from django.contrib import auth

from sealane.db import database_sync_to_async

__all__ = ["SessionCredentials"]


class SessionCredentials:
    """Ask for the user of a session again, by Django's rules and without changing anything.

    The session is read from its store by the key that it has at that time, in one visit to a database thread together
    with the user. One whose hash does not fit is not flushed, as ``get_user()`` would do: the page that has just
    changed the password may be about to give it a new hash. One that fits under one of ``SECRET_KEY_FALLBACKS`` keeps
    its hash and its key.
    """

    __slots__ = ("_session",)

    def __init__(self, session: Any) -> None:
        self._session = session

    @property
    def session_key(self) -> str | None:
        """The key of the session now; None where it was flushed, or never saved."""
        return getattr(self._session, "session_key", None)

    async def recheck(self) -> Any:
        """Return the session's user, or None where the store has no such session, or it has no user any more."""
        key = self.session_key
        return None if key is None else await _reread(type(self._session), key)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"


class _Snapshot(dict[str, Any]):
    """What a session holds, for code that would change it in its store."""

    def flush(self) -> None:
        self.clear()

    def cycle_key(self) -> None:
        """Do nothing: a new key could not be told to the browser."""


@database_sync_to_async
def _reread(store: Any, key: str) -> Any:
    # All that Django reads of a request here is its session.
    request: Any = SimpleNamespace(session=_Snapshot(store(key).items()))
    user: Any = auth.get_user(request)
    return user if user.is_authenticated else None
