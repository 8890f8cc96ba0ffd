"""The pages about the Redis layers: their settings reach real servers, and what they say of these is so."""

import ast
import asyncio
import contextlib
import inspect
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

import pytest
from django.test import RequestFactory, override_settings

from sealane.checks import check_channel_layers
from sealane.consumers import AsyncWebsocketConsumer
from sealane.exceptions import ChannelLayerUnavailable, InvalidChannelLayerError
from sealane.layers import (
    BaseChannelLayer,
    Gap,
    RedisChannelLayer,
    RedisPubSubChannelLayer,
    channel_layers,
    gap,
)
from sealane.layers.redis import arguments, hosts, scripts, topic_mailbox
from sealane.layers.redis.health import Health, ShardHealth
from sealane.layers.redis.layer import RedisLayer
from tests.docs.reading import Reading, put_instead
from tests.docs.snippets import DOCS, Block, blocks_of
from tests.docs.test_reference import quoted, rows
from tests.patient import PatientCommunicator
from tests.servers import Cluster, SentinelGroup, Server, available

CHOOSE, RUN, SEVERAL, SIZE = (
    DOCS / "how-to" / page
    for page in ("choose-a-layer.md", "run-with-redis.md", "sentinel-and-cluster.md", "size-redis.md")
)
LAYERS = "layers.md"
KINDS = [RedisChannelLayer, RedisPubSubChannelLayer]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server() as server:
        yield server


@pytest.fixture
def instead(server: Server) -> dict[str, str]:
    return {"redis://localhost:6379": server.url, "localhost:6379": f"{server.host}:{server.port}"}


def settings_of(page: Path) -> list[Block]:
    """The blocks that are nothing but settings."""
    return [block for block in blocks_of(page) if "CHANNEL_LAYERS = " in block.text]


def run(block: Block, instead: Mapping[str, str]) -> dict[str, Any]:
    names: dict[str, Any] = {}
    exec(compile(put_instead(block.text, instead), block.where, "exec"), names)
    settings: dict[str, Any] = names["CHANNEL_LAYERS"]
    return settings


async def arrives(layer: BaseChannelLayer) -> None:
    """A message for a group arrives, and all servers answer."""
    async with layer:
        channel = await layer.new_channel()
        await layer.group_add("news", channel)
        await layer.group_send("news", {"type": "x"})
        async with asyncio.timeout(10):
            assert await layer.receive(channel) == {"type": "x"}
        if isinstance(layer, RedisLayer):
            assert (await layer.health()).reachable


async def reaches_servers(block: Block, instead: Mapping[str, str]) -> None:
    settings = run(block, instead)
    with override_settings(CHANNEL_LAYERS=settings):
        assert check_channel_layers() == []
        for alias, config in settings.items():
            await arrives(channel_layers.make_backend(alias))
            if "TEST_CONFIG" in config:
                await arrives(channel_layers.make_test_backend(alias))


# The settings


@pytest.mark.parametrize("block", settings_of(CHOOSE), ids=lambda block: str(block.line))
async def test_the_settings_to_choose_from(block: Block, instead: dict[str, str]) -> None:
    await reaches_servers(block, instead)


@pytest.mark.parametrize("block", settings_of(RUN), ids=lambda block: str(block.line))
async def test_the_settings_for_one_server(block: Block, instead: dict[str, str]) -> None:
    with contextlib.ExitStack() as stack:
        if "rediss://" in block.text:
            if not available("redis"):
                pytest.skip("there is no redis-server here, and the wheel's Valkey has no TLS")
            other = stack.enter_context(Server("redis", tls=True))
            instead = {
                "rediss://cache.example.com:6380/0": f"{other.url}/0",
                "/etc/ssl/redis-ca.pem": other.tls_options["ssl_ca_certs"],
            }
        elif "unix://" in block.text:
            other = stack.enter_context(Server(unix=True))
            instead = {"/run/redis/redis.sock": str(other.path)}
        elif "username" in block.text:
            rule = rule_of_the_page().replace(">secret", ">p@ss/word")
            other = stack.enter_context(Server(users=["default off", rule]))
            instead = {'"port": 6379': f'"port": {other.port}', '"localhost"': f'"{other.host}"'}
        await reaches_servers(block, instead)


@pytest.fixture(scope="module")
def open_cluster() -> Iterator[Cluster]:
    """A Cluster that takes everybody in. To start one takes two seconds."""
    with Cluster() as cluster:
        yield cluster


@pytest.mark.parametrize("block", settings_of(SEVERAL), ids=lambda block: str(block.line))
async def test_the_settings_for_several_servers(block: Block, request: pytest.FixtureRequest) -> None:
    nodes = [f'("10.0.0.{number}", 6379)' for number in (1, 2, 3)]
    with contextlib.ExitStack() as stack:
        if "sentinels" in block.text:
            group = stack.enter_context(
                SentinelGroup(service="mymaster", password="servers-password", sentinel_password="sentinels-password")
            )
            places = [f'("10.0.0.{number}", 26379)' for number in (1, 2, 3)]
            servers = group.sentinels
        elif "cluster" in block.text:
            if "password" in block.text:
                cluster = stack.enter_context(Cluster(password="nodes-password"))
            else:
                cluster = request.getfixturevalue("open_cluster")
            places, servers = nodes, cluster.nodes
        else:
            two = [stack.enter_context(Server()) for _ in range(2)]
            await reaches_servers(
                block,
                {f"redis://10.0.0.{number}:6379": server.url for number, server in zip((1, 2), two, strict=True)},
            )
            return
        await reaches_servers(
            block, {place: repr(server.address) for place, server in zip(places, servers, strict=True)}
        )


# Run with Redis


@contextlib.asynccontextmanager
async def installed(layer: BaseChannelLayer, alias: str = "default") -> AsyncIterator[BaseChannelLayer]:
    before = channel_layers.set(alias, layer)
    try:
        async with layer:
            yield layer
    finally:
        channel_layers.set(alias, before)


async def test_two_layers_in_a_project(reading: Reading, instead: dict[str, str]) -> None:
    names = await reading.read(CHOOSE, instead)
    with override_settings(CHANNEL_LAYERS=names["CHANNEL_LAYERS"]):
        layer = channel_layers.make_backend("cursors")
        page = PatientCommunicator(names["CursorConsumer"].as_asgi(), "/")
        async with installed(layer, "cursors"), page:
            await layer.group_send("cursors", {"type": "cursor.moved", "x": 1, "y": 2})
            assert await page.receive_json_from() == {"x": 1, "y": 2}


async def test_the_page_about_running(reading: Reading, server: Server, instead: dict[str, str]) -> None:
    names = await reading.read(RUN, instead)
    request = RequestFactory().get("/")
    async with installed(RedisChannelLayer([server.url], prefix="view")):
        answer = await names["layer_health"](request)
        assert (answer.status_code, answer.content) == (200, b'{"unreachable": []}')
        assert (await asyncio.to_thread(names["publish"], request)).status_code == 204
    # Nobody listens on port 1.
    async with installed(RedisChannelLayer([("127.0.0.1", 1)], timeout=0.2)):
        answer = await names["layer_health"](request)
        assert answer.status_code == 503
        assert b'"place": "127.0.0.1:1/0"' in answer.content
        assert (await asyncio.to_thread(names["publish"], request)).status_code == 204
    with override_settings(CHANNEL_LAYERS=names["CHANNEL_LAYERS"]):
        async with names["test_layer"]() as layer:
            assert (layer.prefix, layer.expiry) == ("test", 5)
            assert channel_layers["default"] is layer
            await layer.send("thumbnails", {"type": "x"})
    assert server.keys("test:c:*") == []


async def test_a_consumer_reads_all_again_after_a_gap(
    reading: Reading, server: Server, instead: dict[str, str]
) -> None:
    names = await reading.read(RUN, instead)
    page = PatientCommunicator(names["NewsConsumer"].as_asgi(), "/")
    async with installed(RedisPubSubChannelLayer([server.url], prefix="gap")) as layer, page:
        assert await page.receive_json_from() == {"headlines": ["Tea is ready"]}
        await layer.group_send("news", {"type": "news.changed"})
        assert await page.receive_json_from() == {"headlines": ["Tea is ready"]}
        # Before the gap: the layer may have its connection back before the thread that cuts it says so.
        names["headlines"].append("So is the cake")
        assert await asyncio.to_thread(server.kill_clients, name="sealane-subscriber")
        assert await page.receive_json_from() == {"headlines": ["Tea is ready", "So is the cake"]}


def rule_of_the_page() -> str:
    [rule] = [block.text.strip() for block in blocks_of(RUN) if block.language == "text"]
    return rule.removeprefix("user ")


async def use_everything(layer: Any, other: Any) -> None:
    """Make each call, of both faces."""
    channel, theirs = await layer.new_channel(), await other.new_channel()
    layer.attach(channel, lambda: None)
    layer.attach("owned", lambda: None)
    for name in (channel, theirs, "named"):
        await layer.group_add("news", name)
    await layer.group_send("news", {"type": "x"})
    for name in (channel, theirs, "owned"):
        await layer.send(name, {"type": "x"})
    async with asyncio.timeout(10):
        await other.receive(theirs)
        await other.receive("named")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await layer.receive("named")

    def work() -> None:
        held = layer.sync.new_channel()
        layer.sync.group_add("news", held)
        layer.sync.group_add("other", theirs)
        layer.sync.group_send("news", {"type": "x"})
        layer.sync.send(channel, {"type": "x"})
        assert layer.sync.receive(held, 20) == {"type": "x"}
        with pytest.raises(TimeoutError):
            layer.sync.receive(held, 0.05)
        layer.sync.group_discard("news", held)
        layer.sync.close_channel(held)

    await asyncio.to_thread(work)
    for branch in (*layer.here().branches, *other.here().branches):
        branch.beat()
    health = await layer.health()
    assert health.reachable
    assert {shard.role for shard in health.shards} == {"master"}
    await layer.group_discard("news", "named")
    await layer.close_channel("owned")
    await layer.close_channel(channel)
    await layer.flush()
    await layer.close()
    await other.close()


@pytest.mark.parametrize("kind", KINDS)
async def test_the_rights_are_enough(kind: type[RedisLayer]) -> None:
    for flavour in ("valkey", "redis"):
        if not available(flavour):
            continue
        with Server(flavour, users=["default off", rule_of_the_page()]) as server:
            hosts = [server.url_as("sealane", "secret")]
            await use_everything(kind(hosts, timeout=20), kind(hosts, timeout=20))
            # What a server refuses for want of a right it remembers.
            assert server.command("ACL", "LOG") == []


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("asks", [True, False], ids=["all", "without-the-last"])
async def test_the_scripting_rights_are_enough(kind: type[RedisLayer], asks: bool) -> None:
    [named] = re.findall(r"Of `\+@scripting` the layers use (.+?)\. ", " ".join(RUN.read_text().split()))
    rights = re.findall("`(.+?)`", named)
    assert rights[-1] == "script|exists"
    narrow = rule_of_the_page().replace("+@scripting ", "") + " -@scripting"
    for right in rights if asks else rights[:-1]:
        narrow += f" +{right}"
    with Server(users=["default off", narrow]) as server:
        hosts = [server.url_as("sealane", "secret")]
        await use_everything(kind(hosts, timeout=20), kind(hosts, timeout=20))
        refused = {entry[entry.index(b"object") + 1] for entry in server.command("ACL", "LOG")}
        assert refused == (set() if asks else {b"script|exists"})


@pytest.mark.parametrize("kind", KINDS)
async def test_the_rights_are_enough_on_a_cluster(open_cluster: Cluster, kind: type[RedisLayer]) -> None:
    [more] = re.findall(r"On a Cluster add\s`(.+?)`", RUN.read_text())
    for node in open_cluster.nodes:
        node.command("ACL", "SETUSER", *f"{rule_of_the_page()} {more}".split())
    hosts = [{**open_cluster.hosts, "username": "sealane", "password": "secret"}]
    await use_everything(kind(hosts, timeout=20), kind(hosts, timeout=20))
    assert [node.command("ACL", "LOG") for node in open_cluster.nodes] == [[], [], []]


async def test_the_rights_are_enough_for_sentinels() -> None:
    [right] = re.findall(r"`(\+sentinel\|.+?)` is enough", " ".join(RUN.read_text().split()))
    with SentinelGroup() as group:
        for sentinel in group.sentinels:
            sentinel.command("ACL", "SETUSER", "asker", "on", ">secret", "-@all", right)
        hosts = [{**group.hosts, "sentinel_kwargs": {"username": "asker", "password": "secret"}}]
        await arrives(RedisChannelLayer(hosts))
        assert [sentinel.command("ACL", "LOG") for sentinel in group.sentinels] == [[], [], []]


def test_the_keys_are_those_of_the_page() -> None:
    text = RUN.read_text()
    table = text[text.index("### What it stores") :].partition("## Monitoring")[0]
    named = set(re.findall(r"`(:\w):?`", table))
    assert scripts.__doc__ is not None
    assert named == {*re.findall(r"^``S(:\w)", scripts.__doc__, re.MULTILINE), ":a"}
    assert topic_mailbox.answer_key(b"S", "x") == b"S:a:x"


def test_the_names_of_the_connections_are_the_codes() -> None:
    directory = Path(inspect.getfile(hosts)).parent
    source = "\n".join((directory / f"{name}.py").read_text() for name in _NAMED)
    named = {name for name in re.findall(r"`(sealane(?:-\w+)?)`", RUN.read_text()) if name != "sealane"}
    assert named == {"sealane-reader", "sealane-subscriber", "sealane-sync"}
    assert all(f'"{name}"' in source for name in named)


_NAMED = ("stream_branch", "topic_branch", "blocking_link")


# The life of a connection


@pytest.mark.parametrize("groups", [[], ["news"]])
async def test_a_connection_while_the_server_is_away(groups: list[str]) -> None:
    consumer: Any = type("Consumer", (AsyncWebsocketConsumer,), {"groups": groups})
    # Nobody listens on port 1.
    async with installed(RedisChannelLayer([("127.0.0.1", 1)], timeout=0.2)):
        page = PatientCommunicator(consumer.as_asgi(), "/")
        if groups:
            with pytest.raises(ChannelLayerUnavailable):
                await page.connect(timeout=20)
        else:
            assert await page.connect(timeout=20) == (True, None)
            await page.disconnect()


# Sizes


@pytest.mark.parametrize(
    ("kind", "reader"), [(RedisChannelLayer, "sealane-reader"), (RedisPubSubChannelLayer, "sealane-subscriber")]
)
async def test_the_connections_are_as_many_as_the_page_says(kind: type[RedisLayer], reader: str) -> None:
    with Server() as server:

        def names() -> list[str]:
            return sorted(client["name"] for client in server.clients())

        async with kind([server.url]) as layer:
            await layer.group_send("news", {"type": "x"})
            assert names() == ["sealane"]
            channels = [await layer.new_channel() for _ in range(20)]
            for channel in channels:
                layer.attach(channel, lambda: None)
                await layer.group_add("news", channel)
            for _ in range(3):
                await asyncio.to_thread(layer.sync.group_send, "news", {"type": "x"})
            assert names() == ["sealane", reader, "sealane-sync"]


async def test_the_memory_is_as_much_as_the_page_says() -> None:
    count = 500
    with Server() as server:
        layer = RedisChannelLayer([server.url], capacity=count)
        async with layer:
            # A process that does not read: it lives, as far as the server knows.
            server.command("SET", "asgi:l:0123456789abcdef", 1)
            server.command("HSET", "asgi:g:news", "m0123456789abcdef", "")
            message = {"type": "x", "text": "a" * 1000}
            size = len(layer.pack(message))
            await asyncio.gather(*(layer.group_send("news", message) for _ in range(count)))
            await asyncio.gather(*(layer.send("thumbnails", message) for _ in range(count)))

            def beside(key: str) -> float:
                used = server.command("MEMORY", "USAGE", f"asgi:{key}", "SAMPLES", 0)
                return float(used) / count - size

            least, most = 14, 42
            assert f"| {least} to {most} bytes |" in SIZE.read_text()
            assert least / 2 < beside("m:0123456789abcdef") < most * 1.5
            assert "| about 100 bytes |" in SIZE.read_text()
            assert 50 < beside("c:thumbnails") < 150

            channel = await layer.new_channel()
            layer.attach(channel, lambda: None)
            await asyncio.gather(*(layer.group_add(f"room.{number}", channel) for number in range(count)))

            def of_groups() -> int:
                keys = [*server.keys("asgi:g:room.*"), *server.keys("asgi:b:*")]
                with server.connect() as wire:
                    return sum(wire.command("MEMORY", "USAGE", key, "SAMPLES", 0) for key in keys)

            before = of_groups()
            assert "about 140 bytes, with a short name" in SIZE.read_text()
            assert 70 < before / count < 280
            # Further members cost the server nothing.
            for _ in range(20):
                other = await layer.new_channel()
                layer.attach(other, lambda: None)
                await layer.group_add("room.1", other)
            assert of_groups() == before


# The reference


@pytest.mark.parametrize("kind", KINDS)
def test_every_option_has_its_row(kind: type[RedisLayer]) -> None:
    common = {quoted(row[0])[0] for row in rows(LAYERS, "Options")}
    own = {quoted(name)[0]: quoted(default)[0] for name, default, _ in rows(LAYERS, "The Redis layers")}
    parameters = inspect.signature(kind).parameters
    assert common.isdisjoint(own)
    # What pub/sub takes only to refuse it, with a word of what there is instead.
    refused = {"maxlen", "on_disconnect", "on_reconnect"} if kind is RedisPubSubChannelLayer else set()
    assert common | set(own) == set(parameters) - refused | {"maxlen"}
    for name in own.keys() - refused:
        assert own[name] == repr(parameters[name].default)
    for name in refused:
        with pytest.raises(InvalidChannelLayerError, match=name):
            kind(**{name: 1})  # type: ignore[arg-type]
    base = inspect.signature(BaseChannelLayer).parameters
    assert all(parameters[name].default == base[name].default for name in common)


def test_every_key_of_a_host_is_named() -> None:
    text = (DOCS / "reference" / LAYERS).read_text()
    section = text[text.index("### Hosts") : text.index("### Gaps")]
    table, _, ignored = section.partition("have no effect")
    assert set(quoted(ignored)) == set(hosts._WITHOUT_EFFECT)
    beside = table.partition("beside the address")[2]
    named = {name for line in beside.splitlines() if line.startswith("| `") for name in quoted(line.split(" | ")[0])}
    where = {"address", "host", "port", "path", "unix_socket_path"}
    assert named == {*hosts._OWN, *arguments.PASSED} - where
    for key in (*hosts._SENTINEL, *hosts._CLUSTER, "address", "host", "port"):
        assert key in table
    assert f"without it {hosts.DEFAULT_SHARDS}" in text
    assert f"1 to {hosts.MOST_SHARDS}" in text


def test_the_examples_of_hosts_are_taken() -> None:
    found = [ast.literal_eval(quoted(row[1])[0]) for row in rows(LAYERS, "Hosts")]
    assert [len(hosts.parse_hosts(host)) for host in found] == [1, 1, 1, 1, 1, 8]
    assert len(hosts.parse_hosts("rediss://localhost?ssl_ca_certs=/etc/ssl/redis-ca.pem")) == 1


def test_a_gap_is_as_the_page_says() -> None:
    assert [quoted(row[0])[0] for row in rows(LAYERS, "Gaps")] == list(Gap.__dataclass_fields__)
    text = (DOCS / "reference" / LAYERS).read_text()
    table = text[text.index("| `reason` | what happened") : text.index("### Health")]
    reasons = re.findall(r'^\| `"(\w+)"` \|', table, re.MULTILINE)
    assert sorted(reasons) == sorted(get_args(gap.GapReason))
    delivery = (DOCS / "explanation" / "delivery.md").read_text()
    assert set(reasons) == set(re.findall(r'`"(forgotten|trimmed|rewound|disconnected)"`', delivery))


def test_health_is_as_the_page_says() -> None:
    table = rows(LAYERS, "Health")
    assert {quoted(row[0])[0] for row in table} == set(ShardHealth.__dataclass_fields__)
    of_layer = {quoted(row[0])[0] for row in table if not row[1].startswith("|")}
    assert of_layer == {name for name in vars(Health) if isinstance(vars(Health)[name], property)}


@pytest.mark.parametrize("kind", KINDS)
def test_every_counter_is_named(kind: type[RedisLayer]) -> None:
    first = rows(LAYERS, "Counters")
    text = (DOCS / "reference" / LAYERS).read_text()
    second = text[text.index("There are more:") : text.index("## Owners")]
    named = {name for row in first for name in quoted(row[0])}
    assert named | set(re.findall(r"^\| `(\w+)` \|", second, re.MULTILINE)) == set(kind().stats())


def test_the_defaults_that_pages_name() -> None:
    parameters = inspect.signature(RedisChannelLayer).parameters
    delivery = " ".join((DOCS / "explanation" / "delivery.md").read_text().split())
    size = SIZE.read_text()
    assert f"four fifths of `lease` ({parameters['lease'].default * 4 / 5:g} seconds by default)" in delivery
    assert f"`maxlen` entries ({parameters['maxlen'].default:,} by default)" in delivery
    for name, unit in (("capacity", ""), ("expiry", " s"), ("maxlen", ""), ("lease", " s"), ("timeout", " s")):
        assert f"| `{name}` | {parameters[name].default:,}{unit} |" in size
