"""``install_as_channels()``: what the names of Channels mean afterwards."""

import sys
from pathlib import Path

import pytest

from sealane.compat import install_as_channels
from sealane.compat.table import MODULES, RELEASES
from sealane.exceptions import ChannelsImported, ChannelsInstalled
from tests.compat.python import run

pytestmark = pytest.mark.untraced

INSTALL = """
from sealane.compat import install_as_channels
install_as_channels()
"""


def test_it_imports_nothing_of_django_and_reads_no_settings() -> None:
    loaded = run(f"""{INSTALL}
import sys
print([name for name in sys.modules if name.startswith(("django", "sealane.layers", "sealane.consumers"))])
import channels.consumer, channels.layers, channels.routing, channels.auth, channels.db, channels.generic.websocket
import channels.testing, channels_redis.core, channels_redis.pubsub, channels.apps
from django.conf import settings
print(settings.configured)
""")
    assert loaded == "[]\nFalse\n"


def test_the_table_has_the_packages() -> None:
    assert set(RELEASES) <= set(MODULES)


def test_classes_are_the_same_not_copies() -> None:
    run(f"""{INSTALL}
from importlib import import_module
from sealane.compat.table import MODULES
for module, names in MODULES.items():
    if module.startswith("daphne"):
        continue  # it is installed here, so it is the real one
    for name, (home, attribute) in names.items():
        assert getattr(import_module(module), name) is getattr(import_module(home), attribute), (module, name)

import pickle
import channels.consumer, channels.exceptions, channels.generic.websocket, channels.layers, channels_redis.core
import sealane.consumers, sealane.exceptions, sealane.layers
from django.utils.module_loading import import_string

assert channels.consumer.AsyncConsumer is sealane.consumers.AsyncConsumer
assert issubclass(channels.generic.websocket.JsonWebsocketConsumer, sealane.consumers.SyncConsumer)
assert isinstance(sealane.layers.InMemoryChannelLayer(), channels.layers.BaseChannelLayer)
assert import_string("channels.layers.InMemoryChannelLayer") is sealane.layers.InMemoryChannelLayer
assert import_string("channels_redis.core.RedisChannelLayer") is sealane.layers.RedisChannelLayer
try:
    raise sealane.exceptions.ChannelFull("thumbnails")
except channels.exceptions.ChannelFull:
    pass

# What is pickled names Sealane, and what Channels had pickled is found.
packed = pickle.dumps(channels.consumer.AsyncConsumer)
assert b"sealane" in packed and b"channels" not in packed
assert pickle.loads(b"cchannels.consumer\\nAsyncConsumer\\n.") is sealane.consumers.AsyncConsumer
""")


def test_versions_for_libraries_that_ask() -> None:
    run(f"""{INSTALL}
import channels, channels_redis
from importlib import metadata
assert channels.__version__ == metadata.version("channels") == "4.3.2"
assert channels_redis.__version__ == metadata.version("channels_redis") == metadata.version("Channels-Redis") == "4.3.0"
assert channels.DEFAULT_CHANNEL_LAYER == "default"
assert metadata.metadata("channels")["Summary"].startswith("Sealane")
assert metadata.files("channels") is None
assert metadata.requires("channels") is None
# A list of what is installed tells the truth, and so does one directory.
assert not {{found.name for found in metadata.distributions()}} & {{"channels", "channels_redis"}}
assert list(metadata.distributions(name="channels", path=[])) == []
assert metadata.version("asgiref")
try:
    metadata.version("channels_postgres")
except metadata.PackageNotFoundError:
    pass
else:
    raise AssertionError
""")


def test_a_module_that_is_not_there_is_not_found() -> None:
    run(f"""{INSTALL}
import importlib.util
import channels
assert importlib.util.find_spec("channels.signals") is None
assert importlib.util.find_spec("channels_redis.core").loader is not None
try:
    import channels.signals
except ModuleNotFoundError as error:
    assert error.name == "channels.signals"
else:
    raise AssertionError
try:
    from channels.consumer import Nothing
except ImportError as error:
    assert "Nothing" in str(error)
else:
    raise AssertionError
""")


def test_a_second_call_does_nothing_and_a_reload_takes_the_names_again() -> None:
    run(f"""{INSTALL}
import sys
finders = list(sys.meta_path)
import channels.consumer
install_as_channels()
install_as_channels(force=True)
assert sys.meta_path == finders
import importlib
before = channels.consumer
channels.consumer.AsyncConsumer = None  # at home, too
import sealane.consumers.base
assert sealane.consumers.base.AsyncConsumer is None
sealane.consumers.base.AsyncConsumer = sealane.consumers.AsyncConsumer
assert importlib.reload(channels.consumer) is before
assert channels.consumer.AsyncConsumer is sealane.consumers.AsyncConsumer
from channels.consumer import *
assert SyncConsumer is sealane.consumers.SyncConsumer
""")


def test_to_patch_a_name_patches_it_where_sealane_looks_it_up() -> None:
    run(f"""{INSTALL}
import asyncio
from unittest import mock
import channels.auth, channels.consumer, channels.db
import sealane.consumers.base, sealane.db, sealane.routing.auth
from channels.testing import ApplicationCommunicator

real = sealane.consumers.base.get_channel_layer
with mock.patch("channels.consumer.get_channel_layer", return_value=None) as asked:
    assert sealane.consumers.base.get_channel_layer is asked

    async def main():
        class Consumer(channels.consumer.AsyncConsumer):
            async def test_message(self, message):
                await self.send({{"type": "test.reply", "layer": self.channel_layer}})
        async with ApplicationCommunicator(Consumer.as_asgi(), {{"type": "test"}}) as communicator:
            await communicator.send_input({{"type": "test.message"}})
            assert await communicator.receive_output() == {{"type": "test.reply", "layer": None}}

    asyncio.run(main())
    asked.assert_called_once_with("default")
assert sealane.consumers.base.get_channel_layer is channels.consumer.get_channel_layer is real

# The well-known one: tests that share a transaction with their consumers keep it open so.
closed = []
with mock.patch("channels.db.close_old_connections", lambda: closed.append(1)):
    from django.conf import settings
    settings.configure()
    assert asyncio.run(channels.db.database_sync_to_async(lambda: "done")()) == "done"
assert closed == [1, 1]

with mock.patch("channels.layers.InMemoryChannelLayer.send") as send:
    from sealane.layers import InMemoryChannelLayer
    assert InMemoryChannelLayer.send is send

import django.contrib.auth
with mock.patch("channels.auth.SESSION_KEY", "mine"):
    assert django.contrib.auth.SESSION_KEY == "_auth_user_id"  # not Sealane's

from _pytest.monkeypatch import MonkeyPatch
real = sealane.routing.auth.get_user
with MonkeyPatch.context() as patch:
    patch.setattr("channels.auth.get_user", "patched")
    assert sealane.routing.auth.get_user == "patched"
assert sealane.routing.auth.get_user is real
""")


# Channels installed too


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A directory with packages of the names, as pip leaves them."""
    for name, version in (("channels", "4.3.2"), ("channels_redis", "4.3.0")):
        package = tmp_path / name
        package.mkdir()
        (package / "__init__.py").write_text(f"__version__ = '{version}'\n")
        (package / "old.py").write_text("")
        info = tmp_path / f"{name}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    return tmp_path


def test_an_installed_channels_is_an_error_unless_forced(installed: Path) -> None:
    printed = run(
        """
from sealane.compat import install_as_channels
from sealane.exceptions import ChannelsInstalled
try:
    install_as_channels()
except ChannelsInstalled as error:
    print(error)
import sys
assert "channels" not in sys.modules

install_as_channels(force=True)
import channels.consumer, channels_redis.core, importlib.util, importlib.metadata
assert channels.consumer.AsyncConsumer.__module__ == "sealane.consumers.base"
# Nothing of the other one can be reached.
assert importlib.util.find_spec("channels.old") is None
assert channels.__path__ == []
assert importlib.metadata.metadata("channels")["Summary"].startswith("Sealane")
""",
        installed,
    )
    place = installed / "channels" / "__init__.py"
    assert printed == (
        f"channels 4.3.2 is installed too, at {place}, so 'import channels' could mean either. "
        "Uninstall it, or call install_as_channels(force=True): then it means Sealane\n"
    )


def test_a_channels_that_was_imported_before_is_an_error_even_if_forced(installed: Path) -> None:
    run(
        """
import channels
from sealane.compat import install_as_channels
from sealane.exceptions import ChannelsImported
for force in (False, True):
    try:
        install_as_channels(force=force)
    except ChannelsImported as error:
        assert str(error).startswith(f"'channels' was imported already, from {channels.__file__}, and"), error
        assert isinstance(error, ImportError)
    else:
        raise AssertionError
import importlib.util
assert importlib.util.find_spec("channels.old") is not None
""",
        installed,
    )


def test_channels_redis_alone_is_an_error_too(installed: Path) -> None:
    for path in (installed / "channels", installed / "channels-4.3.2.dist-info"):
        path.rename(path.with_name(f"x{path.name}"))
    run(
        """
from sealane.compat import install_as_channels
from sealane.exceptions import ChannelsInstalled
try:
    install_as_channels()
except ChannelsInstalled as error:
    assert error.package == "channels_redis" and error.version == "4.3.0"
else:
    raise AssertionError
""",
        installed,
    )


def test_a_directory_of_the_name_without_an_init_is_no_package(tmp_path: Path) -> None:
    (tmp_path / "channels").mkdir()
    run(f"{INSTALL}\nimport channels.consumer", tmp_path)


def test_a_package_of_the_name_that_no_distribution_has(tmp_path: Path) -> None:
    (tmp_path / "channels").mkdir()
    (tmp_path / "channels" / "__init__.py").write_text("")
    run(
        """
from sealane.compat import install_as_channels
from sealane.exceptions import ChannelsInstalled
try:
    install_as_channels()
except ChannelsInstalled as error:
    assert str(error).startswith("channels is installed too, at "), error
else:
    raise AssertionError
""",
        tmp_path,
    )


def test_the_errors_in_this_process() -> None:
    # The suite's own process never installs it: what other tests import would depend on their order.
    assert not [name for name in sys.modules if name.partition(".")[0] == "channels"]
    assert "unknown place" in str(ChannelsImported("channels", None))
    assert str(ChannelsInstalled("channels", None, "/x")).startswith("channels is installed too, at /x, so")
    assert install_as_channels.__doc__
