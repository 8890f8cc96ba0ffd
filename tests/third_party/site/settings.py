"""Settings of a project whose packages import Channels. The one line that it takes is at the top."""

import os
from pathlib import Path

from sealane.compat import install_as_channels

install_as_channels(force=os.environ.get("SITE_HAS_CHANNELS") == "1")

SECRET_KEY = "for the tests only"
DEBUG = False
ALLOWED_HOSTS = ["127.0.0.1"]
INSTALLED_APPS = [
    "channels",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "rest_framework",
    "django_eventstream",
    "port",
]
ROOT_URLCONF = "urls"
ASGI_APPLICATION = "asgi.application"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
DATABASES = {
    "default": {"ENGINE": "django.db.backends.sqlite3", "NAME": Path(os.environ["SITE_DIRECTORY"]) / "db.sqlite3"},
}
CHANNEL_LAYERS = {
    "default": {
        "BACKEND": "channels_redis.core.RedisChannelLayer",
        "CONFIG": {"hosts": [os.environ["SITE_REDIS_URL"]], "prefix": os.environ["SITE_PREFIX"]},
    }
}
EVENTSTREAM_CHANNELMANAGER_CLASS = "django_eventstream.channelmanager.DefaultChannelManager"
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"console": {"class": "logging.StreamHandler"}},
    "loggers": {"": {"handlers": ["console"], "level": "WARNING"}},
}
