"""Configure Django for one side and one workload: the least that consumers need."""

import django
from django.conf import settings

from benchmarks.applications import Applications, load
from benchmarks.workload import CAPACITY, Workload

__all__ = ["applications_for"]


def applications_for(side: str, workload: Workload) -> Applications:
    """Configure Django and return the applications of `side`. Once per process.

    Both frameworks read CHANNEL_LAYERS, so it names the layer of this side, and none where the workload has
    none. There is no database: neither side finds a connection to close.
    """
    settings.configure(SECRET_KEY="for measuring only", INSTALLED_APPS=[], DATABASES={}, CHANNEL_LAYERS={})
    django.setup()
    applications = load(side)
    if workload.layer and applications.backend is not None:
        settings.CHANNEL_LAYERS = {"default": {"BACKEND": applications.backend, "CONFIG": {"capacity": CAPACITY}}}
    return applications
