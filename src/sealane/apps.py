"""Sealane as a Django application."""

from django.apps import AppConfig
from django.core import checks

__all__ = ["SealaneConfig"]


class SealaneConfig(AppConfig):
    """Put ``"sealane"`` into INSTALLED_APPS to get this: the system checks, and ``manage.py runserver``."""

    name = "sealane"
    verbose_name = "Sealane"

    def ready(self) -> None:
        """Register the system checks, and tell sockets of logouts. The tag ``sealane`` selects all checks."""
        from sealane.checks import (
            check_application,
            check_channel_layers,
            check_deployment,
            check_installed_apps,
        )
        from sealane.logins import connect_signals

        connect_signals()
        checks.register(check_application, "sealane", checks.Tags.async_support)
        checks.register(check_channel_layers, "sealane")
        checks.register(check_installed_apps, "sealane", checks.Tags.staticfiles)
        checks.register(check_deployment, "sealane", deploy=True)
