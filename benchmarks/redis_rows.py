"""The rows of what goes through Redis: each twice, for the layers on streams and for those on pub/sub."""

import dataclasses
from collections.abc import Iterable, Iterator

from benchmarks.row import Bar, Row
from benchmarks.workload import Sizes

__all__ = ["LAYERS", "TITLES", "redis_rows"]

#: Which sides stand side by side, by the last word of a row's name.
LAYERS = {
    "streams": {"limit": "limit-streams", "channels": "channels-core", "sealane": "sealane-streams"},
    "pubsub": {"limit": "limit-pubsub", "channels": "channels-pubsub", "sealane": "sealane-pubsub"},
}

TITLES = {"streams": "Redis streams", "pubsub": "Redis pub/sub"}

#: The workloads whose limit is the same for both: no Redis at all.
_ONE_LIMIT = ("redis-broadcast", "redis-fanout")


def _both(row: Row) -> Iterator[Row]:
    for layer, sides in LAYERS.items():
        limit = {"limit": "limit"} if row.workload in _ONE_LIMIT else {}
        yield dataclasses.replace(
            row, name=f"{row.name}-{layer}", title=f"{TITLES[layer]}: {row.title}", sides=sides | limit
        )


def _speeds(sizes: Sizes) -> Iterable[Row]:
    members = f"{sizes.sockets:,}"
    return (
        Row(
            name="redis-broadcast",
            title=f"WebSocket broadcast to {members} in one process",
            workload="redis-broadcast",
            figure="plain",
            unit="deliveries/s",
            bars=(Bar(of="limit", at_least=0.65),),
        ),
        Row(
            name="redis-fanout",
            title=f"`group_send` to {members} members up to `receive`",
            workload="redis-fanout",
            figure="deliveries",
            unit="deliveries/s",
        ),
        Row(
            name="redis-fanout-batch",
            title=f"{sizes.batch} at once of `group_send` to {members} members up to `receive`",
            workload="redis-fanout",
            figure="deliveries-batch",
            unit="deliveries/s",
            bars=(Bar(of="channels-pubsub", at_least=3),),
        ),
        Row(
            name="redis-send",
            title="one sender to one channel, end to end",
            workload="redis-send",
            figure="one",
            unit="messages/s",
        ),
        Row(
            name="redis-send-many",
            title=f"{sizes.senders} concurrent senders to one channel, end to end",
            workload="redis-send",
            figure="many",
            unit="messages/s",
            bars=(Bar(of="channels-pubsub", at_least=4),),
        ),
        Row(
            name="redis-trip",
            title="`send` and `receive`, p50",
            workload="redis-trip",
            figure="trip",
            unit="us",
            bars=(Bar(of="limit", at_most=1.3),),
            less_is_better=True,
        ),
        Row(
            name="redis-sync",
            title="`group_send` from synchronous code",
            workload="redis-sync",
            figure="calls",
            unit="calls/s",
            bars=(Bar(of="limit", at_least=0.8),),
        ),
    )


def _cost(name: str, title: str, workload: str, figure: str, unit: str, *bars: Bar) -> Row:
    return Row(name=name, title=title, workload=workload, figure=figure, unit=unit, bars=bars, less_is_better=True)


def _growth(sizes: Sizes) -> Iterable[Row]:
    for processes in sizes.processes:
        to_all = f"`group_send` to members in {processes} process{'es' if processes > 1 else ''}"
        yield _cost(f"redis-processes-{processes}", to_all, "redis-processes", f"processes-{processes}", "us")
    for kind, title in (("commands", "commands for a `group_send`"), ("bytes", "bytes to Redis for a `group_send`")):
        for processes in (sizes.processes[0], sizes.processes[-1]):
            to_some = f"{title}, members in {processes} process{'es' if processes > 1 else ''}"
            yield _cost(f"redis-{kind}-{processes}", to_some, "redis-processes", f"{kind}-{processes}", kind)
        to_members = f"{title}, {sizes.sockets:,} members in one process"
        yield _cost(f"redis-{kind}-members", to_members, "redis-fanout", kind, kind)
    for processes in (sizes.processes[0], sizes.processes[-1]):
        to_some = f"bytes from Redis for a `group_send`, members in {processes} process{'es' if processes > 1 else ''}"
        yield _cost(f"redis-bytes-out-{processes}", to_some, "redis-processes", f"bytes-out-{processes}", "bytes")
    for groups in sizes.groups:
        beside = f"`group_send` and `receive`, p50, beside {groups:,} other groups"
        yield _cost(f"redis-groups-{groups}", beside, "redis-groups", f"groups-{groups}", "us")
    yield _cost(
        "redis-groups-growth",
        f"the dearest of these over the one beside {sizes.groups[0]}",
        "redis-groups",
        "growth",
        "x",
        Bar(of="itself", at_most=1.2),
    )


def redis_rows(sizes: Sizes) -> list[Row]:
    """Return the rows, for samples of these sizes."""
    return [row for both in (*_speeds(sizes), *_growth(sizes)) for row in _both(both)]
