"""Sealane under the names that other packages have in INSTALLED_APPS."""

from pathlib import Path

from sealane.apps import SealaneConfig
from sealane.compat.logs import adopt_loggers

__all__ = ["ChannelsConfig", "DaphneConfig"]

# Where Django looks for commands.
_PLACE = str(Path(__file__).resolve().parent.parent)


class ChannelsConfig(SealaneConfig):
    """``"channels"`` in INSTALLED_APPS. Beside ``"sealane"`` it adds nothing."""

    name = "channels"
    verbose_name = "Channels"
    path = _PLACE

    def ready(self) -> None:
        adopt_loggers()
        super().ready()


class DaphneConfig(SealaneConfig):
    """``"daphne"`` in INSTALLED_APPS where Daphne is not installed: its ``runserver`` is Sealane's."""

    name = "daphne"
    verbose_name = "Daphne"
    path = _PLACE
