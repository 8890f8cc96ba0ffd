"""The rows of what grows: memory at ten thousand sockets, sockets of a process, latency under load."""

import dataclasses
from collections.abc import Iterable, Iterator

from benchmarks.redis_rows import LAYERS, TITLES
from benchmarks.row import Row
from benchmarks.workload import Sizes

__all__ = ["scale_rows"]

_IN_MEMORY = {"limit": "limit", "channels": "channels", "sealane": "sealane"}

_PARTS = {"p50": "p50", "p99": "p99", "p999": "p99.9"}


def _of_layers(row: Row, *, limit: bool) -> Iterator[Row]:
    for layer, sides in LAYERS.items():
        shown = {column: side for column, side in sides.items() if column != "limit"}
        yield dataclasses.replace(
            row,
            name=f"{row.name}-{layer}",
            title=f"{TITLES[layer]}: {row.title}",
            sides=shown | {"limit": "limit" if limit else "none"},
        )


def _sockets(sizes: Sizes) -> Iterable[Row]:
    for count in sizes.grown:
        yield Row(
            name=f"redis-sockets-{count}",
            title=f"WebSocket broadcast to {count:,}, all that one process has",
            workload="redis-sockets",
            figure=f"sockets-{count}",
            unit="deliveries/s",
        )


def _latency(sizes: Sizes) -> Iterable[Row]:
    to_frame = f"`group_send` to the frames of {sizes.listeners} clients of another process"
    yield Row(
        name="latency-capacity", title=f"{to_frame}, capacity", workload="latency", figure="capacity", unit="messages/s"
    )
    for share in sizes.loads:
        for figure, shown in _PARTS.items():
            yield Row(
                name=f"latency-{figure}-{share}",
                title=f"{to_frame}, {shown} at {share} % of the capacity",
                workload="latency",
                figure=f"{figure}-{share}",
                unit="ms",
                less_is_better=True,
            )
    for figure, who in (("sender", "the sender"), ("receiver", "the server"), ("redis", "Redis")):
        yield Row(
            name=f"latency-processor-{figure}",
            title=f"{to_frame}, processor time of {who}",
            workload="latency",
            figure=f"processor-{figure}",
            unit="us",
            less_is_better=True,
        )


def _footprint(sizes: Sizes) -> Iterator[Row]:
    beside = f"beside {sizes.many:,}"
    titles = {
        "idle": f"an idle WebSocket, {beside}",
        "wait": f"a WebSocket once a handler of it has waited, above an idle one, {beside}",
        "groups": f"a membership in a group that others are in, {beside}",
        "channel": f"a group of its own, {beside}",
    }
    for figure, title in titles.items():
        row = Row(
            name=f"footprint-{figure}",
            title=f"memory of {title}",
            workload="footprint",
            figure=figure,
            unit="bytes",
            less_is_better=True,
        )
        yield dataclasses.replace(
            row,
            name=f"{row.name}-memory",
            title=f"in memory: {row.title}",
            sides=_IN_MEMORY if figure == "idle" else _IN_MEMORY | {"limit": "none"},
        )
        yield from _of_layers(row, limit=figure == "idle")
        if figure == "wait":
            continue
        in_redis = dataclasses.replace(
            row, name=f"{row.name}-redis", title=f"memory of Redis for {title}", figure=f"{figure}-redis"
        )
        yield from _of_layers(in_redis, limit=False)


def scale_rows(sizes: Sizes) -> list[Row]:
    """Return the rows, for samples of these sizes."""
    return [
        *(row for both in _sockets(sizes) for row in _of_layers(both, limit=True)),
        *(row for both in _latency(sizes) for row in _of_layers(both, limit=False)),
        *_footprint(sizes),
    ]
