"""Run a project that was written for Channels on Sealane, unchanged."""

import sys
from importlib.metadata import PackageNotFoundError, version

from sealane.compat.finder import FINDER
from sealane.compat.table import RELEASES
from sealane.exceptions import ChannelsImported, ChannelsInstalled

__all__ = ["install_as_channels"]


def install_as_channels(*, force: bool = False) -> None:
    """Make ``import channels``, ``import channels_redis`` and dotted names in settings mean Sealane, in this process.

    Call it before anything imports Channels: at the top of the settings module, which every entry to a project reads,
    or of ``manage.py`` and ``asgi.py``. It imports neither Django nor the rest of Sealane, and reads no settings. A
    second call does nothing.

    From then on ``channels.consumer.AsyncConsumer`` is ``sealane.consumers.AsyncConsumer``, the same class, and so
    for every name of Channels 4.3 and channels_redis 4.3 that the reference lists. ``"channels"`` in INSTALLED_APPS
    is Sealane, and so is ``"daphne"`` where Daphne is not installed. To set a name of such a module, as
    ``mock.patch("channels.layers.get_channel_layer")`` does, sets it in the module of Sealane that has it. Loggers of
    Sealane hand what they log to the loggers of Channels. ``importlib.metadata.version("channels")`` is the version
    whose names these are; a list of all that is installed stays as it is.

    Raises ChannelsInstalled where Channels or channels_redis is installed too, since then it is not clear which one
    the project means; with ``force`` it means Sealane. Raises ChannelsImported where one of them was imported before,
    with ``force`` too: whoever has imported it would keep the other classes.
    """
    if FINDER in sys.meta_path:
        return
    for package in RELEASES:
        if package in sys.modules:
            raise ChannelsImported(package, getattr(sys.modules[package], "__file__", None))
    if not force:
        for package in RELEASES:
            place = FINDER.installed_elsewhere(package)
            if place is not None:
                raise ChannelsInstalled(package, _version(package), place)
    sys.meta_path.insert(0, FINDER)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:  # a directory of that name on sys.path
        return None
