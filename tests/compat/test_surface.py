"""Every name of Channels and channels_redis is there, with its signature, or its lack has a reason."""

import json

import pytest

from tests.compat.comparison import PAGE, RECORDED, Row, compare_signatures, table
from tests.compat.differences import NAMES, PARAMETERS
from tests.compat.python import run_python

pytestmark = pytest.mark.untraced


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    """What the comparison finds, in a process where Sealane stands in the place of Channels."""
    return [Row(*row) for row in json.loads(run_python("-m", "tests.compat.comparison"))]


def test_there_is_no_gap_without_a_reason(rows: list[Row]) -> None:
    gaps = [row for row in rows if row.state in ("missing", "different")]
    assert [row for row in gaps if row.reason is None] == []
    # And no reason without a gap.
    found = {key for key in NAMES if any(row.name == key or row.name.endswith(f".{key}") for row in gaps)}
    assert found == set(NAMES)


def test_the_modules_of_the_issue_are_there(rows: list[Row]) -> None:
    recorded = json.loads(RECORDED.read_text())
    assert recorded["versions"]["channels"] == "4.3.2"
    assert recorded["versions"]["channels_redis"] == "4.3.0"
    assert len(rows) > 500
    named = {row.name for row in rows if row.state in ("same", "more", "imported")}
    for name in (
        "channels.DEFAULT_CHANNEL_LAYER",
        "channels.__version__",
        "channels.apps.ChannelsConfig",
        "channels.auth.login",
        "channels.consumer.AsyncConsumer",
        "channels.db.database_sync_to_async",
        "channels.exceptions.StopConsumer",
        "channels.generic.http.AsyncHttpConsumer",
        "channels.generic.websocket.AsyncJsonWebsocketConsumer.send_json",
        "channels.layers.get_channel_layer",
        "channels.management.commands.runworker.Command",
        "channels.middleware.BaseMiddleware",
        "channels.routing.URLRouter",
        "channels.security.websocket.OriginValidator",
        "channels.sessions.SessionMiddleware",
        "channels.testing.ChannelsLiveServerTestCase",
        "channels.utils.await_many_dispatch",
        "channels.worker.Worker",
        "channels_redis.core.RedisChannelLayer",
        "channels_redis.pubsub.RedisPubSubChannelLayer",
        "channels_redis.serializers.registry",
        "channels_redis.utils.decode_hosts",
    ):
        assert name in named


def test_the_page_has_the_table(rows: list[Row]) -> None:
    # make surface writes it.
    assert table(rows) in PAGE.read_text()


A = ["a", "POSITIONAL_OR_KEYWORD"]
B = ["b", "POSITIONAL_OR_KEYWORD", "None"]
C = ["c", "KEYWORD_ONLY", "1"]
MORE = ["kwargs", "VAR_KEYWORD"]


@pytest.mark.parametrize(
    ("theirs", "mine", "state"),
    [
        ([A], [A], "same"),
        ([A], [A, B], "more"),
        ([A, C], [A, B, C], "more"),
        ([A, B], [A], "different"),
        ([A, B], [B, A], "different"),
        ([A], [A, ["b", "POSITIONAL_OR_KEYWORD"]], "different"),
        ([A, B], [A, ["b", "POSITIONAL_OR_KEYWORD", "1"]], "different"),
        ([A, B], [A, ["b", "POSITIONAL_OR_KEYWORD"]], "different"),
        ([A, MORE], [A], "different"),
        ([A, MORE], [A, B, MORE], "more"),
        (None, [A], "same"),
    ],
)
def test_compare_signatures(theirs: list[list[str]] | None, mine: list[list[str]], state: str) -> None:
    assert compare_signatures("a.name", theirs, mine)[0] == state


def test_parameters_with_a_reason_are_some_of_theirs() -> None:
    recorded = json.loads(RECORDED.read_text())["modules"]
    for key in PARAMETERS:
        name, _, parameter = key.removesuffix(")").partition("(")
        assert parameter in json.dumps(
            next(
                value
                for package in recorded.values()
                for module, names in package.items()
                for public, value in names.items()
                if name == f"{module}.{public}" or name.startswith(f"{module}.{public}.")
            )
        )
