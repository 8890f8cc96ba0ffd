"""The rows of the report and their bars: what is measured, in which unit, and what is good enough."""

from benchmarks.redis_rows import redis_rows
from benchmarks.row import Bar, Row
from benchmarks.scale_rows import scale_rows
from benchmarks.workload import FULL, Sizes

__all__ = ["rows_for"]


def _receive_rows(sizes: Sizes) -> list[Row]:
    costs = [
        Row(
            name=f"receive-{members}",
            title=f"in-memory `receive` beside {members:,} unrelated members",
            workload="receive",
            figure=f"members-{members}",
            unit="us",
            less_is_better=True,
        )
        for members in sizes.members
    ]
    growth = Row(
        name="receive-growth",
        title=f"the dearest of these over the one beside {sizes.members[0]}",
        workload="receive",
        figure="growth",
        unit="x",
        bars=(Bar(of="itself", at_most=1.2),),
        less_is_better=True,
    )
    return [*costs, growth]


def rows_for(sizes: Sizes = FULL) -> list[Row]:
    """Return every row, for samples of these sizes."""
    to_all = f"WebSocket broadcast to {sizes.sockets:,}, in memory"
    window = f"{sizes.window} broadcasts on their way"
    return [
        Row(
            name="dispatch",
            title="in-process dispatch, no-op handler",
            workload="dispatch",
            figure="messages",
            unit="messages/s",
            bars=(Bar(of="channels", at_least=80), Bar(of="limit", at_least=0.4)),
        ),
        Row(
            name="ping-pong",
            title="ping-pong through one consumer, layer attached",
            workload="ping-pong",
            figure="trips",
            unit="round trips/s",
            bars=(Bar(of="limit", at_least=0.7),),
        ),
        Row(
            name="echo",
            title=f"WebSocket echo, {sizes.connections} connections",
            workload="echo",
            figure="messages",
            unit="messages/s",
            bars=(Bar(of="limit", at_least=0.9),),
        ),
        Row(
            name="echo-layer",
            title=f"WebSocket echo, {sizes.connections} connections, layer attached",
            workload="echo-layer",
            figure="messages",
            unit="messages/s",
            bars=(Bar(of="limit", at_least=0.9),),
        ),
        Row(
            name="broadcast",
            title=to_all,
            workload="broadcast",
            figure="plain",
            unit="deliveries/s",
            bars=(Bar(of="limit", at_least=0.7),),
        ),
        Row(
            name="broadcast-encoded",
            title=f"{to_all}, event ready to send",
            workload="broadcast",
            figure="encoded",
            unit="deliveries/s",
            bars=(Bar(of="limit", at_least=0.85),),
        ),
        Row(
            name="broadcast-window",
            title=f"{to_all}, {window}",
            workload="broadcast",
            figure="plain-window",
            unit="deliveries/s",
        ),
        Row(
            name="broadcast-encoded-window",
            title=f"{to_all}, event ready to send, {window}",
            workload="broadcast",
            figure="encoded-window",
            unit="deliveries/s",
        ),
        Row(
            name="memory",
            title="memory of the server per idle WebSocket",
            workload="connect",
            figure="memory",
            unit="KiB",
            bars=(Bar(of="above", at_most=4),),
            less_is_better=True,
        ),
        Row(
            name="accepted",
            title="connections accepted",
            workload="connect",
            figure="accepted",
            unit="connections/s",
            bars=(Bar(of="limit", at_least=0.8),),
        ),
        *_receive_rows(sizes),
        *redis_rows(sizes),
        *scale_rows(sizes),
    ]
