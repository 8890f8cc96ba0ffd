"""Sealane as the application ``"channels"`` of a Django project, and the places for the one line."""

from pathlib import Path

import pytest

from tests.compat.python import run, run_python
from tests.docs.snippets import DOCS, blocks_of

pytestmark = pytest.mark.untraced

#: As the page has it.
[LINE] = [block.text for block in blocks_of(DOCS / "how-to" / "move-from-channels.md") if block.language == "python"]

SETTINGS = """
SECRET_KEY = "for the tests only"
INSTALLED_APPS = ["channels", "django.contrib.staticfiles", "django.contrib.contenttypes", "django.contrib.auth"]
ASGI_APPLICATION = "mysite.asgi.application"
ROOT_URLCONF = "mysite.urls"
STATIC_URL = "/static/"
USE_TZ = True
DEBUG = True
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
CHANNEL_LAYERS = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer", "CONFIG": {"capacity": 7}}}
LOGGING = {
    "version": 1,
    "disable_existing_loggers": True,
    "formatters": {"names": {"format": "%(name)s %(levelname)s %(message)s"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "stream": "ext://sys.stdout", "formatter": "names"}},
    "loggers": {"django.channels": {"handlers": ["console"], "level": "INFO", "propagate": False}},
}
"""

ASGI = """
import os
from channels.auth import AuthMiddlewareStack
from channels.generic.websocket import AsyncWebsocketConsumer
from channels.routing import ProtocolTypeRouter, URLRouter
from django.core.asgi import get_asgi_application
from django.urls import path

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mysite.settings")
application = ProtocolTypeRouter({
    "http": get_asgi_application(),
    "websocket": URLRouter([path("ws/", AsyncWebsocketConsumer.as_asgi())]),
})
"""

MANAGE = """
import os, sys
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mysite.settings")
from django.core.management import execute_from_command_line
execute_from_command_line(sys.argv)
"""

TEST = """
def test_the_consumer_is_of_sealane():
    from channels.consumer import AsyncConsumer
    from sealane import consumers
    assert AsyncConsumer is consumers.AsyncConsumer
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project of Channels, without the one line."""
    package = tmp_path / "mysite"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "settings.py").write_text(SETTINGS)
    (package / "urls.py").write_text("urlpatterns = []\n")
    (package / "asgi.py").write_text(ASGI)
    (tmp_path / "manage.py").write_text(MANAGE)
    (tmp_path / "test_site.py").write_text(TEST)
    return tmp_path


def prepend(file: Path, line: str = LINE) -> None:
    text = file.read_text() if file.exists() else ""
    file.write_text(line + text)


@pytest.mark.parametrize("place", ["manage.py", "mysite/settings.py"])
def test_the_line_in_a_file_that_manage_reads(project: Path, place: str) -> None:
    prepend(project / place)
    assert "no issues" in run_python("manage.py", "check", path=(project,), cwd=project)


def test_the_line_in_asgi(project: Path) -> None:
    prepend(project / "mysite" / "asgi.py")
    printed = run("import mysite.asgi; print(type(mysite.asgi.application).__module__)", project)
    assert printed == "sealane.routing.protocol\n"


def test_the_line_in_conftest(project: Path) -> None:
    prepend(project / "conftest.py")
    assert "1 passed" in run_python("-m", "pytest", "-q", path=(project,), cwd=project, plugins=False)


def test_the_line_for_pytest_django(project: Path) -> None:
    # Which sets Django up before any conftest.py is read.
    prepend(project / "mysite" / "__init__.py")
    arguments = ("-m", "pytest", "-q", "-p", "pytest_django.plugin", "--ds", "mysite.settings")
    assert "1 passed" in run_python(*arguments, path=(project,), cwd=project, plugins=False)


def test_the_application_is_sealanes(project: Path) -> None:
    prepend(project / "mysite" / "__init__.py")
    run(
        """
import os
os.environ["DJANGO_SETTINGS_MODULE"] = "mysite.settings"
import django
django.setup()
from django.apps import apps
from django.core.management import get_commands, load_command_class
from django.core import checks
from sealane.apps import SealaneConfig
import sealane.management.commands.runserver

assert apps.is_installed("channels") and not apps.is_installed("sealane")
config = apps.get_app_config("channels")
assert isinstance(config, SealaneConfig)
import channels.apps
assert type(config) is channels.apps.ChannelsConfig
assert list(config.get_models()) == []

# It stands before staticfiles, so this is Sealane's runserver.
assert get_commands()["runserver"] == "channels"
command = load_command_class("channels", "runserver")
assert type(command) is sealane.management.commands.runserver.Command

from channels.layers import get_channel_layer
from sealane.layers import InMemoryChannelLayer
assert type(get_channel_layer()) is InMemoryChannelLayer and get_channel_layer().capacity == 7
assert checks.run_checks(tags=["sealane"]) == []
""",
        project,
    )


@pytest.mark.parametrize("apps", ['["channels", "sealane"', '["sealane", "daphne", "channels"'])
def test_both_names_listed(project: Path, apps: str) -> None:
    settings = project / "mysite" / "settings.py"
    settings.write_text(LINE + SETTINGS.replace('["channels"', apps))
    run(
        """
import os, sys
from importlib.machinery import PathFinder
# Where Daphne is not installed.
find_spec = PathFinder.find_spec
PathFinder.find_spec = lambda name, *args: None if name.partition(".")[0] == "daphne" else find_spec(name, *args)
os.environ["DJANGO_SETTINGS_MODULE"] = "mysite.settings"
import django
django.setup()
from django.apps import apps
from django.core import checks
from django.core.management import get_commands, load_command_class
assert apps.is_installed("channels") and apps.is_installed("sealane")
assert checks.run_checks() == []
owner = get_commands()["runserver"]
assert owner in ("sealane", "channels", "daphne")
from sealane.management.commands.runserver import Command
assert type(load_command_class(owner, "runserver")) is Command
from django.contrib.auth.signals import user_logged_out
assert len([key for key, *_ in user_logged_out.receivers if key[0] == "sealane.revocation"]) == 1
if apps.is_installed("daphne"):
    assert type(load_command_class("daphne", "runserver")) is Command
    import importlib.util
    assert importlib.util.find_spec("daphne.server") is None
""",
        project,
    )


def test_an_installed_daphne_stays_what_it_is(project: Path) -> None:
    settings = project / "mysite" / "settings.py"
    settings.write_text(LINE + SETTINGS.replace('["channels"', '["daphne", "channels"'))
    run(
        """
import os
os.environ["DJANGO_SETTINGS_MODULE"] = "mysite.settings"
import django
django.setup()
from django.core import checks
from django.core.management import load_command_class
import daphne.apps, daphne.server
assert daphne.__version__ and daphne.apps.__file__
assert load_command_class("daphne", "runserver").__module__ == "daphne.management.commands.runserver"
assert checks.run_checks() == []
""",
        project,
    )


def test_a_project_without_an_asgi_application_has_no_error(project: Path) -> None:
    prepend(project / "mysite" / "__init__.py")
    (project / "mysite" / "settings.py").write_text(SETTINGS.replace("ASGI_APPLICATION", "NOTHING"))
    assert "no issues" in run_python("manage.py", "check", path=(project,), cwd=project)


LOG = """
import os
os.environ["DJANGO_SETTINGS_MODULE"] = "mysite.settings"
import django
django.setup()
import logging
import channels.consumer, channels.layers
logging.getLogger("sealane.consumers").info("from a consumer")
logging.getLogger("sealane.consumers").debug("too quiet")
logging.getLogger("sealane.worker").info("from a worker")
logging.getLogger("sealane.layers.redis").warning("from the Redis layer")
"""


def test_handlers_of_channels_get_what_sealane_logs(project: Path) -> None:
    # The line comes before LOGGING is applied, which would disable loggers that are there by then.
    prepend(project / "mysite" / "__init__.py")
    own = (
        '"loggers": {"channels_redis": {"handlers": ["console"], "level": "ERROR"}, '
        '"django.channels.worker": {"handlers": ["console"], "level": "INFO", "propagate": False},'
    )
    (project / "mysite" / "settings.py").write_text(SETTINGS.replace('"loggers": {', own))
    assert run(LOG, project) == "sealane.consumers INFO from a consumer\nsealane.worker INFO from a worker\n"


def test_without_the_application_too(project: Path) -> None:
    # Channels does not have to be installed as an application.
    prepend(project / "mysite" / "__init__.py")
    (project / "mysite" / "settings.py").write_text(SETTINGS.replace('"channels", ', ""))
    assert run(LOG, project).splitlines()[0] == "sealane.consumers INFO from a consumer"
