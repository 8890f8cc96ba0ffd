"""Credentials: what made somebody the user of a connection, and how to ask for them again."""

from typing import Any, Protocol

from django.db.models import Model
from django.utils.crypto import constant_time_compare

from sealane.db import database_sync_to_async
from sealane.types import Scope

__all__ = ["CREDENTIALS", "Credentials", "ModelCredentials", "credentials_of"]

#: Where a middleware that finds users puts them into the scope.
CREDENTIALS = "sealane.credentials"


class Credentials(Protocol):
    """What a middleware puts into ``scope["sealane.credentials"]`` beside the user that it found.

    Its ``repr()`` shows no secret: scopes get into logs.
    """

    @property
    def session_key(self) -> str | None:
        """The key of the session now; None where the user came without one."""

    async def recheck(self) -> Any:
        """Return the user as they are now, or None where they are one no more. It changes nothing, in no store.

        What it raises says that the question could not be answered, because the database is away for instance.
        """


class ModelCredentials:
    """The credentials of a user whose middleware left none: the account itself.

    The user is read from the database by primary key, must be active, and must have the password of before.
    """

    __slots__ = ("_user",)

    session_key = None

    def __init__(self, user: Model) -> None:
        self._user = user

    async def recheck(self) -> Any:
        """Read the user anew, in one visit to a database thread."""
        return await _read(self._user)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"


def credentials_of(scope: Scope) -> Credentials:
    """Return the credentials of the scope's user; raise TypeError where there is nothing to ask."""
    credentials: Credentials | None = scope.get(CREDENTIALS)
    if credentials is not None:
        return credentials
    user = scope["user"]
    if not isinstance(user, Model):
        raise TypeError(
            f"The user in the scope is of type {type(user).__name__}, which cannot be read anew: revalidate needs a "
            "model instance, a user found by AuthMiddleware or TokenAuthMiddleware, or an object with recheck() in "
            f"scope[{CREDENTIALS!r}]"
        )
    return ModelCredentials(user)


@database_sync_to_async
def _read(user: Model) -> Any:
    # Any: an object may be a LazyObject around the model's instance.
    model: Any = user._meta.model
    fresh = model._default_manager.filter(pk=user.pk).first()
    if fresh is None or not getattr(fresh, "is_active", True):
        return None
    if not hasattr(fresh, "get_session_auth_hash"):
        return fresh
    before: Any = user
    return fresh if constant_time_compare(before.get_session_auth_hash(), fresh.get_session_auth_hash()) else None
