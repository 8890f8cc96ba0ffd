"""What the limits count, and how often they say so."""

from sealane.consumers.limit_counters import LimitCounters


def test_everything_is_counted_and_told_once_a_minute() -> None:
    now = 0.0
    counters = LimitCounters(lambda: now)
    assert counters.note("refused_size")
    assert not counters.note("refused_size", 3)
    assert counters.note("closed_slow"), "each name has a line of its own"
    now = 59.9
    assert not counters.note("refused_size")
    now = 60
    assert counters.note("refused_size")
    assert counters["refused_size"] == 6
    assert counters.as_dict() == {
        "refused_size": 6,
        "refused_rate": 0,
        "refused_groups": 0,
        "dropped_oldest": 0,
        "dropped_newest": 0,
        "dropped_closed": 0,
        "closed_slow": 1,
        "refused_envelope": 0,
        "refused_streams": 0,
        "closed_streams": 0,
    }
    assert repr(counters) == "<LimitCounters refused_size=6 closed_slow=1>"
    assert repr(LimitCounters()) == "<LimitCounters nothing>"
