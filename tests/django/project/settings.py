"""Settings of the sample project that the tests of runserver copy, serve and change."""

from pathlib import Path
from typing import Any

SECRET_KEY = "for the tests only"
DEBUG = True
ALLOWED_HOSTS = ["*"]
INSTALLED_APPS = ["sealane", "django.contrib.staticfiles"]
ROOT_URLCONF = "urls"
ASGI_APPLICATION = "asgi.application"
STATIC_URL = "/static/"
STATICFILES_DIRS = [Path(__file__).parent / "static"]
DATABASES: dict[str, Any] = {}
