"""What Sealane logs, for handlers and levels that a project has set for the loggers of Channels."""

import logging
from typing import Final

__all__ = ["PARENTS", "adopt_loggers"]

#: The logger of Channels to which each of Sealane's hands its records, and from which it has its level. Loggers below
#: one of these stay below it.
PARENTS: Final = {
    "sealane": "django.channels",
    "sealane.worker": "django.channels.worker",
    "sealane.layers.redis": "channels_redis",
}


def adopt_loggers() -> None:
    """Put Sealane's loggers below those of Channels. Twice is once.

    Records keep their names. A handler of a Sealane logger gets them first, as before.
    """
    for name, parent in PARENTS.items():
        logging.getLogger(name).parent = logging.getLogger(parent)
