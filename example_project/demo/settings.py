"""Django's settings for the example: SQLite, and the in-memory channel layer unless CHAT_REDIS_URL names a server."""

import os
from pathlib import Path

BASE_DIR = Path(__file__).resolve().parent.parent

# Good enough to try the project on one's own machine. A real site reads its key from a secret place.
SECRET_KEY = os.environ.get("CHAT_SECRET_KEY", "only for trying the example project")
DEBUG = True
# Pages of other sites may not open a socket here either: AllowedHostsOriginValidator reads this list.
ALLOWED_HOSTS = ["127.0.0.1", "localhost", "[::1]"]

INSTALLED_APPS = [
    # First, so that its runserver, which serves ASGI_APPLICATION, stands before the one of staticfiles.
    "sealane",
    "django.contrib.humanize",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "chat",
    "pictures",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
ROOT_URLCONF = "demo.urls"
ASGI_APPLICATION = "demo.asgi.application"

# A message to a socket that waits for a minute is of no use any more. A job is, when the workers were away.
JOBS = {"channel_expiry": {"pictures": 86400}}

# Without a Redis or Valkey server, messages stay in this process. With one, such as redis://127.0.0.1:6379, they reach
# every process that is given the same.
REDIS_URL = os.environ.get("CHAT_REDIS_URL")
if REDIS_URL:
    CHANNEL_LAYERS = {
        "default": {"BACKEND": "sealane.layers.RedisChannelLayer", "CONFIG": {"hosts": [REDIS_URL], **JOBS}}
    }
else:
    CHANNEL_LAYERS = {"default": {"BACKEND": "sealane.layers.InMemoryChannelLayer", "CONFIG": JOBS}}

DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ.get("CHAT_DATABASE", BASE_DIR / "db.sqlite3"),
        "OPTIONS": {
            # Readers go on beside the one writer; a second writer waits instead of failing at once.
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
            "transaction_mode": "IMMEDIATE",
            "timeout": 10,
        },
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
# In a cookie, beside the session, which says whose pictures are whose.
MESSAGE_STORAGE = "django.contrib.messages.storage.cookie.CookieStorage"

STATIC_URL = "static/"

# Pictures, as they were sent and as they are shown. No address leads there: a view looks who asks.
MEDIA_ROOT = os.environ.get("CHAT_MEDIA", BASE_DIR / "media")
# Seconds between two of the sizes of a picture. The work is so quick that nobody could watch it otherwise.
PICTURES_PAUSE = float(os.environ.get("CHAT_PICTURES_PAUSE", "0.4"))

USE_TZ = True
