"""Sealane as a Django application."""

from django.apps import AppConfig
from django.core import checks

__all__ = ["SealaneConfig"]


class SealaneConfig(AppConfig):
    """Put ``"sealane"`` into INSTALLED_APPS to get this: the system checks, and ``manage.py runserver``."""

    name = "sealane"
    verbose_name = "Sealane"

    def ready(self) -> None:
        """Register the system checks. The tag ``sealane`` selects them all."""
        from sealane.checks import check_application, check_channel_layers, check_installed_apps

        checks.register(check_application, "sealane", checks.Tags.async_support)
        checks.register(check_channel_layers, "sealane")
        checks.register(check_installed_apps, "sealane", checks.Tags.staticfiles)
