"""Configure Django for one side and one workload: the least that consumers need."""

import django
from django.conf import settings

from benchmarks.applications import Applications, load
from benchmarks.layers import setting
from benchmarks.store import Store
from benchmarks.workload import CAPACITY, Workload

__all__ = ["applications_for", "configure"]


def configure() -> None:
    """Configure Django, once per process. There is no database: neither side finds a connection to close."""
    settings.configure(SECRET_KEY="for measuring only", INSTALLED_APPS=[], DATABASES={}, CHANNEL_LAYERS={})
    django.setup()


def applications_for(side: str, workload: Workload, store: Store | None = None) -> Applications:
    """Configure Django and return the applications of `side`. Once per process.

    Both frameworks read CHANNEL_LAYERS, so it names the layer of this side, and none where the workload has none.
    """
    configure()
    applications = load(side)
    if workload.redis and store is not None:
        settings.CHANNEL_LAYERS = {"default": setting(side, store)}
    elif workload.layer and applications.backend is not None:
        settings.CHANNEL_LAYERS = {"default": {"BACKEND": applications.backend, "CONFIG": {"capacity": CAPACITY}}}
    return applications
