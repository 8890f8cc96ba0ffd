"""``install_as_channels()`` where it cannot take the place of Channels."""

from sealane.exceptions.base import SealaneError

__all__ = [
    "ChannelsImported",
    "ChannelsInstalled",
]


class ChannelsImported(SealaneError, ImportError):
    """``install_as_channels()`` came too late: a package whose place it takes was imported before."""

    def __init__(self, package: str, file: str | None) -> None:
        super().__init__(package, file)
        self.package = package
        self.file = file

    def __str__(self) -> str:
        return (
            f"{self.package!r} was imported already, from {self.file or 'an unknown place'}, and who has it would keep "
            "its classes. Call install_as_channels() before: at the top of the settings module, or of manage.py, "
            "asgi.py or conftest.py"
        )


class ChannelsInstalled(SealaneError, ImportError):
    """``install_as_channels()`` was called where a package whose place it takes is installed too."""

    def __init__(self, package: str, version: str | None, place: str) -> None:
        super().__init__(package, version, place)
        self.package = package
        self.version = version
        self.place = place

    def __str__(self) -> str:
        version = f" {self.version}" if self.version else ""
        return (
            f"{self.package}{version} is installed too, at {self.place}, so 'import {self.package}' could mean either. "
            f"Uninstall it, or call install_as_channels(force=True): then it means Sealane"
        )
