"""Settings of the sample project that the tests of runworker copy and work in. The environment says over what."""

import json
import os

SECRET_KEY = "for the tests only"
DEBUG = os.environ.get("JOBS_DEBUG") == "1"
ALLOWED_HOSTS = ["*"]
INSTALLED_APPS = ["sealane"]
ROOT_URLCONF = "urls"
ASGI_APPLICATION = "asgi.application"
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
CHANNEL_LAYERS = json.loads(os.environ["JOBS_LAYERS"])
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"console": {"class": "logging.StreamHandler"}},
    "root": {"handlers": ["console"], "level": "INFO"},
}
