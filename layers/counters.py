"""What a channel layer counts, so that every message that does not arrive is counted under a name."""

from dataclasses import dataclass

__all__ = ["Counters"]


@dataclass(slots=True)
class Counters:
    """Totals since the layer was made. One (message, channel) pair is counted once under each name that fits it.

    ``addressed == delivered + dropped_full + dropped_expired + dropped_closed + dropped_flushed + waiting`` holds
    whenever no call is under way.
    """

    #: Messages given to ``send()``.
    sent: int = 0
    #: Messages given to ``group_send()``.
    group_sent: int = 0
    #: Pairs of message and channel: one per ``send()``, one per member for ``group_send()``.
    addressed: int = 0
    #: Pairs that a receiver took; of those under a lease, the ones that were acknowledged.
    delivered: int = 0
    #: Dropped because the channel held as many messages as its capacity.
    dropped_full: int = 0
    #: Dropped because they waited longer than ``expiry``.
    dropped_expired: int = 0
    #: Dropped because the channel, its event loop or the layer was closed.
    dropped_closed: int = 0
    #: Dropped by ``flush()``.
    dropped_flushed: int = 0
    #: Deliveries under a lease of what had been delivered before.
    redelivered: int = 0
    #: Deliveries that were given back: to be delivered again, and as if they had not been delivered.
    retried: int = 0
    released: int = 0
    #: Messages that were moved to a dead-letter channel, where they wait.
    dead_lettered: int = 0
    #: Calls of a Delivery that came when its lease was no longer good.
    leases_lost: int = 0

    @property
    def dropped(self) -> int:
        """All pairs that never arrive."""
        return self.dropped_full + self.dropped_expired + self.dropped_closed + self.dropped_flushed

    @property
    def waiting(self) -> int:
        """Pairs that wait in a channel."""
        return self.addressed - self.delivered - self.dropped

    def as_dict(self) -> dict[str, int]:
        """Return every counter by name."""
        return {
            "sent": self.sent,
            "group_sent": self.group_sent,
            "addressed": self.addressed,
            "delivered": self.delivered,
            "dropped_full": self.dropped_full,
            "dropped_expired": self.dropped_expired,
            "dropped_closed": self.dropped_closed,
            "dropped_flushed": self.dropped_flushed,
            "redelivered": self.redelivered,
            "retried": self.retried,
            "released": self.released,
            "dead_lettered": self.dead_lettered,
            "leases_lost": self.leases_lost,
            "waiting": self.waiting,
        }
