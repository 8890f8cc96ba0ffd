"""Django's settings for the test suite: SQLite in a file that threads can share, and the in-memory layer."""

import atexit
import shutil
import tempfile
from pathlib import Path

_scratch = Path(tempfile.mkdtemp(prefix="sealane-tests-"))
atexit.register(shutil.rmtree, _scratch, ignore_errors=True)

SECRET_KEY = "for the tests only"
DEBUG = False
ALLOWED_HOSTS = ["127.0.0.1", "[::1]", "localhost", "testserver"]
USE_TZ = True

INSTALLED_APPS = [
    "sealane",
    "django.contrib.admin",
    "django.contrib.contenttypes",
    "django.contrib.auth",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "tests.django.articles",
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    }
]
ROOT_URLCONF = "tests.urls"
ASGI_APPLICATION = "tests.asgi.application"
STATIC_URL = "/static/"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
# The default hasher spends a quarter of a second per password, by design.
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]

# A file, not ":memory:": consumers and live servers work in threads of their own, each with its own
# connection, and a shared in-memory database answers those with "table is locked" instead of waiting.
# Write-ahead logging lets readers go on beside a writer.
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": _scratch / "default.sqlite3",
        "OPTIONS": {
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF;",
            "timeout": 20,
            "transaction_mode": "IMMEDIATE",
        },
        "TEST": {"NAME": _scratch / "tests.sqlite3"},
    }
}

CHANNEL_LAYERS = {
    "default": {
        "BACKEND": "sealane.layers.InMemoryChannelLayer",
        "TEST_CONFIG": {"expiry": 60},
    }
}
