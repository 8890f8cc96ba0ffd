"""Django's own ways to end a login, told to the sockets: ``logout()``, a new password, the end of an account."""

from typing import Any

from django.apps import apps
from django.conf import settings

__all__ = ["connect_signals"]


def connect_signals() -> None:
    """Have Django's own ways to end a login announced. Called once, when Django is set up."""
    from django.contrib.auth.signals import user_logged_out
    from django.db.models.signals import post_delete, post_save

    user_logged_out.connect(_logged_out, dispatch_uid="sealane.revocation")
    if settings.AUTH_USER_MODEL.partition(".")[0] not in apps.app_configs:
        return  # a project without accounts
    post_save.connect(_saved, sender=settings.AUTH_USER_MODEL, dispatch_uid="sealane.revocation")
    post_delete.connect(_deleted, sender=settings.AUTH_USER_MODEL, dispatch_uid="sealane.revocation")


def _logged_out(sender: Any, request: Any, user: Any, **kwargs: Any) -> None:
    # Without a request it is Sealane's logout(), which announces it when the session is gone.
    session_key = getattr(getattr(request, "session", None), "session_key", None)
    if session_key is not None:
        _announce(user, session_key, None)


def _saved(sender: Any, instance: Any, created: bool, raw: bool, using: str, update_fields: Any, **kwargs: Any) -> None:
    if not created and not raw and _ends_logins(instance, update_fields):
        _announce(instance, None, using)


def _deleted(sender: Any, instance: Any, using: str, **kwargs: Any) -> None:
    _announce(instance, None, using)


def _ends_logins(user: Any, update_fields: Any) -> bool:
    """Tell whether what was saved may end logins: most saves of a user, the time of the last login say, do not."""
    # Django keeps what set_password() was given until save() is over.
    if getattr(user, "_password", None) is not None and (update_fields is None or "password" in update_fields):
        return True
    return not getattr(user, "is_active", True) and (update_fields is None or "is_active" in update_fields)


def _announce(user: Any, session_key: str | None, using: str | None) -> None:
    # Not at the head: most commands need neither consumers nor layers.
    from sealane.consumers.revocation import announce

    announce(user, session_key, using=using)
