"""The base of the tree."""

__all__ = [
    "SealaneError",
]


class SealaneError(Exception):
    """The base of every exception that Sealane raises."""
