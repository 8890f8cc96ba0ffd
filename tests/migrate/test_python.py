"""What becomes of a Python module: imports, what is read through them, names in texts."""

from textwrap import dedent

import pytest

from sealane.migrate.change import apply
from sealane.migrate.names import names
from sealane.migrate.python import rewrite_python


def rewritten(source: str) -> tuple[str, list[tuple[int, str]]]:
    """The module as it becomes, and what is left. To rewrite it again changes nothing, and leaves the same."""
    text = dedent(source).lstrip("\n")
    changes = rewrite_python(text, names())
    after = apply(text, changes.edits)
    again = rewrite_python(after, names())
    assert apply(after, again.edits) == after
    found = sorted((finding.line, finding.text) for finding in set(changes.findings))
    return after, found


def assert_becomes(before: str, after: str) -> None:
    assert rewritten(before) == (dedent(after).lstrip("\n"), [])


def assert_left(source: str, *found: tuple[int, str]) -> None:
    """Nothing changes, and a person is told of some lines; a finding is known by its beginning."""
    text, left = rewritten(source)
    assert text == dedent(source).lstrip("\n")
    assert [line for line, _ in left] == [line for line, _ in found]
    for (_, said), (_, expected) in zip(left, found, strict=True):
        assert expected in said


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("from channels.consumer import AsyncConsumer", "from sealane.consumers import AsyncConsumer"),
        ("from channels.db import database_sync_to_async as d", "from sealane.db import database_sync_to_async as d"),
        ("from channels import layers", "from sealane import layers"),
        ("from channels.generic import websocket", "from sealane import consumers as websocket"),
        ("from channels.generic import websocket as ws", "from sealane import consumers as ws"),
        ("from channels import DEFAULT_CHANNEL_LAYER", "from sealane.layers import DEFAULT_CHANNEL_LAYER"),
        ("import channels", "import sealane"),
        ("import channels.layers", "import sealane.layers"),
        ("import channels.layers as cl, os", "import sealane.layers as cl, os"),
        ("import os, channels.layers # why", "import os, sealane.layers # why"),
        ("from channels.testing.live import ChannelsLiveServerTestCase as Live",
         "from sealane.testing import LiveServerTestCase as Live"),
        ("from channels.testing import ChannelsLiveServerTestCase",
         "from sealane.testing import LiveServerTestCase as ChannelsLiveServerTestCase"),
        ("from channels_redis.core import RedisChannelLayer", "from sealane.layers import RedisChannelLayer"),
        ("from channels.layers import (get_channel_layer)  # noqa",
         "from sealane.layers import (get_channel_layer)  # noqa"),
        ("if a: from channels.consumer import AsyncConsumer, StopConsumer",
         "if a: from sealane.consumers import AsyncConsumer; from sealane.exceptions import StopConsumer"),
        ("a = 1; from channels.layers import ChannelFull, channel_layers",
         "a = 1; from sealane.exceptions import ChannelFull; from sealane.layers import channel_layers"),
        ("from channels.management.commands import runworker", "from sealane.management.commands import runworker"),
        ("from channels.management.commands.runserver import Command",
         "from sealane.management.commands.runserver import Command"),
        ("from .channels import layers", "from .channels import layers"),
        ("from channelsx import layers", "from channelsx import layers"),
        ("import notchannels.layers", "import notchannels.layers"),
    ],
)  # fmt: skip
def test_an_import(before: str, after: str) -> None:
    assert_becomes(before, after)


def test_names_that_go_to_different_modules_keep_their_comments() -> None:
    assert_becomes(
        """
        from channels.auth import (  # who is there
            # the usual
            AuthMiddlewareStack,  # with the session
            database_sync_to_async,
            # both ways
            login, logout,  # of a user
            # the end
        )  # noqa: F401
        """,
        """
        from sealane.routing import (  # who is there
            # the usual
            AuthMiddlewareStack,  # with the session
            # both ways
            login,
            logout,  # of a user
            # the end
        )
        from sealane.db import database_sync_to_async  # noqa: F401
        """,
    )


def test_names_that_go_to_different_modules_in_a_function() -> None:
    assert_becomes(
        """
        def f():
            # first
            from channels.generic.websocket import AsyncWebsocketConsumer, StopConsumer  # here
            return AsyncWebsocketConsumer
        """,
        """
        def f():
            # first
            from sealane.consumers import AsyncWebsocketConsumer
            from sealane.exceptions import StopConsumer  # here
            return AsyncWebsocketConsumer
        """,
    )


def test_what_is_read_through_a_package() -> None:
    assert_becomes(
        """
        import channels.generic.websocket
        import channels.layers

        class Page(channels.generic.websocket.WebsocketConsumer):
            layer = channels.layers.get_channel_layer().send

            def connect(self):
                raise channels.exceptions.DenyConnection
        """,
        """
        import sealane.consumers
        import sealane.layers
        import sealane.exceptions

        class Page(sealane.consumers.WebsocketConsumer):
            layer = sealane.layers.get_channel_layer().send

            def connect(self):
                raise sealane.exceptions.DenyConnection
        """,
    )


def test_only_what_is_read_through_a_package_is_imported() -> None:
    assert_becomes(
        """
        def f():
            import channels
            channels.layers.get_channel_layer()
            channels.auth.login
        """,
        """
        def f():
            import sealane.layers
            import sealane.routing
            sealane.layers.get_channel_layer()
            sealane.routing.login
        """,
    )


def test_each_scope_has_its_own_meaning() -> None:
    assert_becomes(
        """
        import channels.db as channels_db
        def f(channels):
            return channels.layers.get_channel_layer, channels_db.database_sync_to_async
        def g():
            from channels import layers as channels
            return channels.get_channel_layer
        """,
        """
        import sealane.db as channels_db
        def f(channels):
            return channels.layers.get_channel_layer, channels_db.database_sync_to_async
        def g():
            from sealane import layers as channels
            return channels.get_channel_layer
        """,
    )


def test_a_name_that_is_called_otherwise_behind_a_module() -> None:
    assert_becomes(
        "from channels import testing\nclass A(testing.ChannelsLiveServerTestCase): pass\n",
        "from sealane import testing\nclass A(testing.LiveServerTestCase): pass\n",
    )


def test_conditional_imports() -> None:
    assert_becomes(
        """
        from typing import TYPE_CHECKING
        if TYPE_CHECKING:
            from channels.layers import BaseChannelLayer
        try:
            from channels.layers import get_channel_layer
        except ImportError:
            get_channel_layer = None
        try:
            import channels.layers
        except ImportError:
            has_channels = False
        """,
        """
        from typing import TYPE_CHECKING
        if TYPE_CHECKING:
            from sealane.layers import BaseChannelLayer
        try:
            from sealane.layers import get_channel_layer
        except ImportError:
            get_channel_layer = None
        try:
            import sealane.layers
        except ImportError:
            has_channels = False
        """,
    )


def test_a_package_that_may_be_something_else_stays() -> None:
    assert_left(
        """
        try:
            import channels
        except ImportError:
            channels = None
        if channels:
            channels.layers.get_channel_layer()
        """,
        (2, "channels may also come from line 4"),
    )
    assert_left(
        """
        if a:
            from channels import layers
        else:
            from other import layers
        layers.get_channel_layer
        """,
        (2, "layers may also come from another import"),
    )
    assert_left("import channels.layers as x\nimport channels.db as x\n", (2, "x is channels.layers and channels.db"))


@pytest.mark.parametrize(
    ("source", "line", "text"),
    [
        ("from channels.layers import *\n", 1, "name what you use"),
        ("import channels.layers\nchannels.layers.missing()\n", 2, "channels.layers.missing has no counterpart"),
        ("from channels import layers\nlayers.missing\n", 2, "channels.layers.missing has no counterpart"),
        ("from channels import auth\nauth.database_sync_to_async\n", 2, "is sealane.db.database_sync_to_async now"),
        ("from channels.binding.websockets import A\n", 1, "channels.binding.websockets.A has no counterpart"),
        ("from daphne.server import Server\n", 1, "daphne.server.Server has no counterpart"),
        ("import daphne.server\n", 1, "daphne.server has no counterpart"),
        ("import channels_redis\n", 1, "channels_redis has no counterpart"),
        ("import channels.generic as g\n", 1, "channels.generic has no counterpart"),
        ("import channels\nchannels.__version__\n", 2, "channels.__version__ has no counterpart"),
        ('__import__("channels.layers").layers\n', 1, "look what is done with the package"),
        ('version("channels")\n', 1, "look what is done with the package"),
        ('import_module("channels." + name)\n', 1, "a part of a name"),
        ('import_module(f"channels.{name}.{other}")\n', 1, "a part of a name"),
        ('import_module("channels.%s" % name)\n', 1, "a part of a name"),
        ('find_spec("daphne")\n', 1, "say what to ask for"),
        ('"daphne" in settings.INSTALLED_APPS\n', 1, "Sealane is called 'sealane'"),
        ('"channels" not in sys.modules\n', 1, "Sealane is called 'sealane'"),
        ('a = "channels.layers.missing"\n', 1, "has no counterpart"),
        ('a = "channels_redis.missing.A"\n', 1, "has no counterpart"),
        ('a = ("channels.layers." "get_channel_layer")\n', 1, "is a part of a name"),
        ('INSTALLED_APPS.insert(0, "daphne")\n', 1, "'sealane' has to be the first"),
        ('INSTALLED_APPS.extend(["channels"])\n', 1, "'sealane' has to be the first"),
        ('INSTALLED_APPS = env.list("APPS", default=["channels"])\n', 1, "'sealane' has to be the first"),
        ('INSTALLED_APPS = A + (["daphne"] if b else [])\n', 1, "'sealane' has to be the first"),
        ("def f():\n    global channels\n    import channels.layers\n", 3, "may also come from another scope"),
        ('LOGGING = {"loggers": {"daphne.server": {}}}\n', 1, "your server's own takes its place"),
        ("import channels\ndef f(:\n", 2, "cannot be read as Python, and is left alone"),
    ],
)  # fmt: skip
def test_what_is_left_to_a_person(source: str, line: int, text: str) -> None:
    assert_left(source, (line, text))


def test_the_package_itself_is_pointed_out() -> None:
    text, found = rewritten("import channels\nprint(channels)\n")
    assert text == "import sealane\nprint(sealane)\n"
    assert found == [(1, "channels itself is used, and is sealane now: look what for")]


def test_a_part_of_an_import_stays() -> None:
    text, found = rewritten("from channels.layers import get_channel_layer, missing\n")
    assert text == "from sealane.layers import get_channel_layer\nfrom channels.layers import missing\n"
    assert found == [(1, "channels.layers.missing has no counterpart in Sealane")]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('mock.patch("channels.layers.get_channel_layer")', 'mock.patch("sealane.layers.get_channel_layer")'),
        ("a = r'channels.layers.InMemoryChannelLayer.send'", "a = r'sealane.layers.InMemoryChannelLayer.send'"),
        ('BACKEND = """channels_redis.core.RedisChannelLayer"""', 'BACKEND = """sealane.layers.RedisChannelLayer"""'),
        ('import_module("channels.layers")', 'import_module("sealane.layers")'),
        ('x: "channels.consumer.AsyncConsumer"', 'x: "sealane.consumers.AsyncConsumer"'),
        ('apps.is_installed("channels")', 'apps.is_installed("sealane")'),
        ('"channels" in settings.INSTALLED_APPS', '"sealane" in settings.INSTALLED_APPS'),
        ('logging.getLogger("django.channels")', 'logging.getLogger("sealane")'),
        ('logging.getLogger("channels_redis.core")', 'logging.getLogger("sealane.layers.redis")'),
        ('L = {"loggers": {"django.channels": {}, "django.channels.server": {}}}',
         'L = {"loggers": {"sealane": {}, "django.channels.server": {}}}'),
        # What may be anything else.
        ('"channels"', '"channels"'),
        ('ForeignKey("channels.Channel")', 'ForeignKey("channels.Channel")'),
        ('"See channels.layers.get_channel_layer"', '"See channels.layers.get_channel_layer"'),
        ('b"channels.layers.get_channel_layer"', 'b"channels.layers.get_channel_layer"'),
        ('def f():\n    "channels.layers"', 'def f():\n    "channels.layers"'),
    ],
)  # fmt: skip
def test_names_in_texts(before: str, after: str) -> None:
    assert_becomes(before, after)


def test_files_about_other_channels_are_not_even_parsed() -> None:
    assert rewritten("red, green = channels  # of an image\nprint 'Python 2'\n")[1] == []


def test_two_loggers_do_not_become_one() -> None:
    text, found = rewritten('L = {"loggers": {"channels_redis.core": {}, "channels_redis.pubsub": {}}}\n')
    assert text == 'L = {"loggers": {"sealane.layers.redis": {}, "channels_redis.pubsub": {}}}\n'
    assert found[0][1].startswith("logger 'channels_redis.pubsub': 'sealane.layers.redis' takes its place, and is")


class TestInstalledApps:
    def test_first_once_and_with_comments(self) -> None:
        assert_becomes(
            """
            INSTALLED_APPS = [
                # before staticfiles
                "daphne",  # runserver
                "django.contrib.staticfiles",
                # sockets
                "channels",  # gone
                "chat",
            ]
            """,
            """
            INSTALLED_APPS = [
                # before staticfiles
                "sealane",  # runserver
                "django.contrib.staticfiles",
                # sockets
                "chat",
            ]
            """,
        )

    @pytest.mark.parametrize(
        ("before", "after"),
        [
            ('["a", "channels", "b"]', '["sealane", "a", "b"]'),
            ('["channels"]', '["sealane"]'),
            ('("a", "channels")', '("sealane", "a")'),
            ("['a', 'channels.apps.ChannelsConfig']", "['sealane', 'a']"),
            ('["daphne", "channels"]', '["sealane"]'),
            ('["sealane", "channels", "a"]', '["sealane", "a"]'),
            ('["channels", "sealane", "a"]', '["sealane", "a"]'),
            ('["sealane", "channels"]', '["sealane"]'),
            ('[\n    "a", "b",\n    "channels"\n]', '[\n    "sealane",\n    "a", "b",\n]'),
            ('["daphne"] + ["a"]', '["sealane"] + ["a"]'),
            ('["a"] + ["channels", "b"]', '["a"] + ["sealane", "b"]'),
        ],
    )  # fmt: skip
    def test_forms(self, before: str, after: str) -> None:
        text, _ = rewritten(f"INSTALLED_APPS = {before}\n")
        assert text == f"INSTALLED_APPS = {after}\n"

    def test_a_part_of_the_list(self) -> None:
        text, found = rewritten(
            'THIRD_PARTY_APPS = ["a", "channels"]\nINSTALLED_APPS: list[str] = A + THIRD_PARTY_APPS\n'
        )
        assert text.startswith('THIRD_PARTY_APPS = ["a", "sealane"]')
        assert [line for line, _ in found] == [1]
        assert "THIRD_PARTY_APPS: 'sealane' has to be the first" in found[0][1]

    def test_added_later(self) -> None:
        assert rewritten('INSTALLED_APPS = ["daphne", "a"]\nif b:\n    INSTALLED_APPS += ["channels"]\n') == (
            'INSTALLED_APPS = ["sealane", "a"]\nif b:\n    INSTALLED_APPS += []\n',
            [],
        )

    def test_other_lists_of_the_name_are_left(self) -> None:
        assert_becomes('CHANNELS = ["channels", "daphne"]\n', 'CHANNELS = ["channels", "daphne"]\n')
