"""The reference says what the code has: names, options, settings, checks, exceptions, loggers."""

import ast
import inspect
import logging
import logging.config
import re
import sys
import textwrap
import types
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from django.core import checks
from django.core.management import BaseCommand, load_command_class
from django.test import override_settings
from django.urls import path as route

from sealane import exceptions
from sealane.consumers import AsyncWebsocketConsumer
from sealane.routing import (
    AllowedHostsOriginValidator,
    AuthMiddlewareStack,
    OriginValidator,
    ProtocolTypeRouter,
    URLRouter,
)
from tests.docs.reading import Reading
from tests.docs.snippets import DOCS, ROOT

REFERENCE = DOCS / "reference"

SOURCES = [
    path
    for directory in ("consumers", "layers", "routing", "src/sealane")
    for path in (ROOT / directory).rglob("*.py")
    if not path.is_relative_to(ROOT / "src/sealane/testing/layer_contract")
]


def rows(page: str, heading: str) -> list[list[str]]:
    """The rows of the first table below a heading, without its head."""
    text = (REFERENCE / page).read_text()
    lines = text[text.index(f"# {heading}\n") :].splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("|"))
    table = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        table.append([cell.strip() for cell in line.strip("|").split(" | ")])
    return table


def quoted(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", text)


def documented(page: str) -> dict[str, str]:
    """What the directives of a page show: dotted name to the kind of directive."""
    found = re.findall(r"^\.\. auto(\w+):: ([\w.]+)$", (REFERENCE / page).read_text(), re.MULTILINE)
    return {name: kind for kind, name in found}


@pytest.mark.parametrize(
    ("pages", "module"),
    [
        (["layers.md"], "sealane"),
        (["consumers.md"], "sealane.consumers"),
        (["routing.md", "middleware.md"], "sealane.routing"),
        (["testing.md"], "sealane.testing"),
        (["exceptions.md"], "sealane.exceptions"),
        (["worker.md"], "sealane.worker"),
    ],
)
def test_every_public_name_has_its_entry(pages: list[str], module: str) -> None:
    shown = {name for page in pages for name in documented(page) if name.rpartition(".")[0] == module}
    assert shown == {f"{module}.{name}" for name in import_module(module).__all__ if name != "__version__"}


@pytest.mark.parametrize("page", sorted(REFERENCE.glob("*.md")), ids=lambda page: page.name)
def test_an_entry_is_of_something_that_is_there(page: Path) -> None:
    text = page.read_text()
    for kind, name, members in re.findall(
        r"^\.\. auto(class|function|exception):: ([\w.]+)\n(?:   :members:(.*)\n)?", text, re.MULTILINE
    ):
        module, _, attribute = name.rpartition(".")
        value = getattr(import_module(module), attribute)
        assert inspect.isclass(value) is (kind in ("class", "exception"))
        assert inspect.getdoc(value)
        for member in filter(None, members.strip().split(", ")):
            # Raises where there is none. Not hasattr(): some have a value only while a server runs.
            inspect.getattr_static(value, member)


# Consumers


def test_the_table_of_consumers() -> None:
    consumers = import_module("sealane.consumers")
    for name, _, handlers in rows("consumers.md", "Consumers"):
        consumer = getattr(consumers, quoted(name)[0])
        assert issubclass(consumer, consumers.SyncConsumer) is handlers.startswith("plain functions")


def test_the_attributes_of_consumers() -> None:
    base = import_module("sealane.consumers").AsyncConsumer
    for name, meaning in rows("consumers.md", "What every consumer has"):
        [attribute] = quoted(name)
        assert attribute in base.__annotations__
        if attribute == "end_timeout":
            assert meaning.endswith(f": {base.end_timeout:g}")
    assert base.error_policy == "close"
    assert base.channel_layer_alias == "default"


def test_the_limits_are_the_attributes() -> None:
    consumers = import_module("sealane.consumers")
    websocket, http = consumers.AsyncWebsocketConsumer, consumers.AsyncHttpConsumer
    named = {quoted(row[0])[0]: (row[1], row[3]) for row in rows("consumers.md", "Limits")}
    limits = import_module("sealane.consumers.limits")
    assert set(named) == {*limits._WHOLE, *limits._ANY, "slow_client"}
    assert set(named) == {
        name for base in (limits.Limits, limits.WebsocketLimits) for name in vars(base) if not name.startswith("_")
    }
    for name, (where, what) in named.items():
        assert getattr(websocket, name) == ("close" if name == "slow_client" else None)
        assert hasattr(http, name) is (where == "all" or "HTTP" in where)
        for kind, code in re.findall(r"`(\w+)`: close with (\d+)", what):
            if kind != "close":
                assert getattr(exceptions, kind).code == int(code)


def test_the_counters_of_the_limits() -> None:
    counters = import_module("sealane.consumers").AsyncConsumer.limit_counters
    text = (REFERENCE / "consumers.md").read_text()
    table = re.findall(r"^\| `(\w+)` \| [^|]+ \|$", text[text.index("| Counter | Counts |") :], re.MULTILINE)
    assert table[: len(counters.as_dict())] == list(counters.as_dict())


REFUSED = [kind for row in rows("consumers.md", "Which method handles a message") for kind in quoted(row[0])]


@pytest.mark.parametrize("kind", REFUSED)
def test_what_a_layer_does_not_reach(kind: str) -> None:
    consumers = import_module("sealane.consumers")

    class Consumer(consumers.AsyncWebsocketConsumer):  # type: ignore[name-defined,misc]
        async def close(self, *args: Any, **kwargs: Any) -> None: ...

        async def _name(self, message: Any) -> None: ...

    with pytest.raises(exceptions.UnhandledMessage):
        Consumer._layer_handlers.resolve({"type": kind})


# Settings and checks


def used_settings() -> set[str]:
    found: set[str] = set()
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Attribute(value=ast.Name(id="settings"), attr=name) if name.isupper():
                    found.add(name)
                case ast.Call(
                    func=ast.Name(id="getattr"), args=[ast.Name(id="settings"), ast.Constant(value=str(name)), *_]
                ):
                    found.add(name)
    return found


def test_every_setting_is_named() -> None:
    named = {
        name
        for heading in ("Sealane's settings", "Django's settings that matter here")
        for row in rows("settings-and-checks.md", heading)
        for name in quoted(row[0])
    }
    # SETTINGS_MODULE is Django's own, and CONN_... are read by Django for Sealane.
    assert used_settings() - {"SETTINGS_MODULE"} == named - {"CONN_MAX_AGE", "CONN_HEALTH_CHECKS"}


CHECKS: dict[str, dict[str, Any]] = {
    "sealane.E001": {"ASGI_APPLICATION": None},
    "sealane.E002": {"ASGI_APPLICATION": "mysite.asgi.app"},
    "sealane.E003": {"CHANNEL_LAYERS": []},
    "sealane.E004": {"CHANNEL_LAYERS": {"default": {}}},
    "sealane.E005": {
        "CHANNEL_LAYERS": {
            "default": {"BACKEND": "sealane.layers.InMemoryChannelLayer", "TEST_CONFIG": {"capacity": 0}}
        }
    },
    "sealane.E006": {"INSTALLED_APPS": ["django.contrib.staticfiles", "sealane"]},
    "sealane.E007": {"INSTALLED_APPS": ["daphne", "sealane"]},
    "sealane.W001": {"CHANNEL_LAYERS": {"default": {"BACKEND": "sealane.layers.InMemoryChannelLayer"}}},
    "sealane.W002": {"INSTALLED_APPS": ["sealane", "daphne"]},
}

#: The application for WebSockets that each check of a deployment finds something wrong with.
DEPLOYED: dict[str, Callable[[Any], Any]] = {
    "sealane.W003": AllowedHostsOriginValidator,
    "sealane.W004": AuthMiddlewareStack,
    "sealane.W005": lambda routes: OriginValidator(AuthMiddlewareStack(routes), ["*"]),
}


def test_every_check_is_named() -> None:
    tables = [rows("settings-and-checks.md", heading) for heading in ("System checks", "Checks of a deployment")]
    named, deployed = ([quoted(row[0])[0] for row in table] for table in tables)
    sources = [(ROOT / "src/sealane" / name).read_text() for name in ("checks.py", "deployment.py")]
    assert [set(re.findall(r'id="(sealane\.\w+)"', source)) for source in sources] == [set(named), set(deployed)]
    assert set(named) == set(CHECKS)
    assert set(deployed) == set(DEPLOYED)


@pytest.mark.parametrize("row", rows("settings-and-checks.md", "System checks"), ids=lambda row: row[0].strip("`"))
def test_a_check_says_what_the_page_says(row: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    identifier = quoted(row[0])[0]
    (tmp_path / "daphne").mkdir()
    (tmp_path / "daphne" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    # In a test run the in-memory layer is right, and the check says nothing.
    monkeypatch.delattr("django.core.mail.outbox", raising=False)
    with override_settings(**CHECKS[identifier]):
        found = [message for message in checks.run_checks(tags=["sealane"]) if message.id == identifier]
    monkeypatch.undo()
    assert [(message.msg, message.hint) for message in found] == [(row[1], row[2])]


@pytest.mark.parametrize(
    "row", rows("settings-and-checks.md", "Checks of a deployment"), ids=lambda row: row[0].strip("`")
)
def test_a_check_of_a_deployment_says_what_the_page_says(row: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    [identifier] = quoted(row[0])
    consumer: Any = AsyncWebsocketConsumer.as_asgi()
    module: Any = types.ModuleType("deployed_asgi")
    module.application = ProtocolTypeRouter(
        {"websocket": DEPLOYED[identifier](URLRouter([route("ws/chat/<slug:room>/", consumer)]))}
    )
    monkeypatch.setitem(sys.modules, "deployed_asgi", module)
    monkeypatch.setenv("WEB_CONCURRENCY", "4")
    with override_settings(ASGI_APPLICATION="deployed_asgi.application"):
        everything = checks.run_checks(tags=["sealane"], include_deployment_checks=True)
    found = [message for message in everything if message.id == identifier]
    assert [(message.msg, message.hint) for message in found] == [(row[1], row[2])]


# The commands


@pytest.mark.parametrize(("command", "page"), [("runserver", "runserver.md"), ("runworker", "worker.md")])
def test_the_options_of_a_command(command: str, page: str) -> None:
    parser = load_command_class("sealane", command).create_parser("manage.py", command)
    common = BaseCommand().create_parser("manage.py", "anything")
    ours = {
        option
        for action in parser._actions
        for option in (action.option_strings or [action.dest])
        if option not in common._option_string_actions
    }
    named = {quoted(text)[0] for row in rows(page, f"manage.py {command}") for text in row[0].split(", ")}
    with_underscores = {option for option in ours if "_" in option}
    assert {option.partition(" ")[0] for option in named} == ours - with_underscores
    text = (REFERENCE / page).read_text()
    assert all(f"`{option}`" in text for option in with_underscores)


def test_the_defaults_of_runserver() -> None:
    from sealane.management.commands.runserver import HANDSHAKE_TIMEOUT
    from sealane.server import development, reloading

    defaults = {quoted(row[0])[0].partition(" ")[0]: row[2] for row in rows("runserver.md", "manage.py runserver")}
    assert defaults["--ws-max-size"] == str(development.WS_MAX_SIZE)
    assert defaults["--websocket-handshake-timeout"] == f"{HANDSHAKE_TIMEOUT:g}"
    text = " ".join((REFERENCE / "runserver.md").read_text().split())
    assert f"Requests have {development.HANG_UP_AFTER:g} seconds" in text
    assert f"what still runs {development.CANCEL_AFTER:g} seconds later" in text
    assert f"After {reloading.LEAVE_AFTER:g} seconds the process leaves" in text


def test_the_defaults_of_runworker() -> None:
    from sealane.management.commands.runserver import WORKER_SHUTDOWN
    from sealane.management.commands.runworker import RELOAD_SHUTDOWN
    from sealane.server import reloading
    from sealane.worker import verdict

    parser = load_command_class("sealane", "runworker").create_parser("manage.py", "runworker")
    for option, _, default in rows("worker.md", "manage.py runworker"):
        name = quoted(option)[0].partition(" ")[0].lstrip("-").replace("-", "_")
        value = parser.get_default(name)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            assert default == f"{value:g}"
        elif value:
            assert default == f"`{value}`"
    text = " ".join((REFERENCE / "worker.md").read_text().split())
    assert f"up to {verdict.MOST_DELAY / 60:g} minutes" in text
    assert f"Under the autoreloader handlers have {RELOAD_SHUTDOWN:g} seconds" in text
    assert f"holds the process for {reloading.LEAVE_AFTER:g} seconds more" in text
    assert f"Its handlers have {WORKER_SHUTDOWN:g} second to end" in text


# Exceptions


def test_the_tree_of_exceptions_is_the_codes() -> None:
    assert exceptions.__doc__ is not None
    tree = exceptions.__doc__.partition("::\n\n")[2].partition("\n\nAn exception")[0]
    assert textwrap.dedent(tree) in (REFERENCE / "exceptions.md").read_text()
    assert set(re.findall(r"^[ │├└─]*(\w+)", textwrap.dedent(tree), re.MULTILINE)) == set(exceptions.__all__)


# Logging


def test_every_logger_is_named() -> None:
    source = "\n".join(path.read_text() for path in SOURCES)
    used = set(re.findall(r'getLogger\("(sealane[\w.]*)"\)', source)) | set(re.findall(r'LOGGER_NAME = "(.+)"', source))
    assert {quoted(row[0])[0] for row in rows("logging.md", "Logging")} == used


async def test_the_settings_for_logging_can_be_used(reading: Reading) -> None:
    names = await reading.read(REFERENCE / "logging.md")
    logger = logging.getLogger("sealane")
    before = logger.handlers[:], logger.level
    try:
        logging.config.dictConfig(names["LOGGING"])
        assert logger.level == logging.WARNING
        assert len(logger.handlers) == 1
    finally:
        logger.handlers[:], logger.level = before
