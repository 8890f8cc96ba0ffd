"""A session engine of a project's own, written as Django's documentation shows: with synchronous methods."""

import datetime
from typing import Any

from django.contrib.sessions.backends.db import SessionStore as DatabaseStore

__all__ = ["FOREVER", "SessionStore"]

FOREVER = datetime.datetime(2099, 1, 1, tzinfo=datetime.UTC)


class SessionStore(DatabaseStore):
    def create_model_instance(self, data: Any) -> Any:
        instance = super().create_model_instance(data)
        instance.expire_date = FOREVER
        return instance
