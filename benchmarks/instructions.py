"""Counting what Python does for a piece of work: bytecode instructions, and calls into C.

Both are exact. They depend on the Python version and on the code that runs, not on the machine and not on its load.
What a call into C does there is not seen, only that it is made.
"""

import selectors
import sys
from asyncio import base_events, events, queues
from collections.abc import Callable
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

__all__ = ["Count", "Counter"]

#: What drives the work: the benchmarks, and the queues that stand in for a server.
_DRIVERS = (str(Path(__file__).parent), queues.__file__)

#: A turn of the event loop, and the order of its timers. How many events one turn brings, and where a deadline falls
#: among the others, depends on the machine; what each of them costs is counted.
_TURN = {
    (base_events.__file__, "_run_once"),
    (base_events.__file__, "run_forever"),
    (events.__file__, "__lt__"),
    (selectors.__file__, "select"),
    (selectors.__file__, "_key_from_fd"),
}


def _counts(code: CodeType) -> bool:
    """Tell whether the work of a function is counted: what drives the work is not a part of it."""
    return not code.co_filename.startswith(_DRIVERS) and (code.co_filename, code.co_name) not in _TURN


class Count:
    """Bytecode instructions, and calls into C."""

    __slots__ = ("calls", "instructions")

    def __init__(self, instructions: int = 0, calls: int = 0) -> None:
        self.instructions = instructions
        self.calls = calls

    def copy(self) -> "Count":
        """Return what was counted so far."""
        return Count(self.instructions, self.calls)

    def since(self, before: "Count") -> "Count":
        """Return what was counted since another moment."""
        return Count(self.instructions - before.instructions, self.calls - before.calls)

    def __repr__(self) -> str:
        return f"<Count {self.instructions} instructions, {self.calls} calls into C>"


class Counter:
    """Count in a `with` block, in the thread that entered it.

    The functions that were running already when the block was entered are not counted, and neither is the code of
    the benchmarks.
    """

    def __init__(self) -> None:
        self._start, self._stop = _monitor if sys.version_info >= (3, 12) else _trace

    def __enter__(self) -> Count:
        count = Count()
        self._start(count)
        return count

    def __exit__(self, *_: object) -> None:
        self._stop()


def _start_tracing(count: Count) -> None:
    known: dict[CodeType, bool] = {}

    def on_instruction(frame: FrameType, event: str, arg: Any) -> Any:
        if event == "opcode":
            count.instructions += 1
        return on_instruction

    def on_call(frame: FrameType, event: str, arg: Any) -> Any:
        code = frame.f_code
        counts = known.get(code)
        if counts is None:
            counts = known[code] = _counts(code)
        if not counts:
            return None
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        return on_instruction

    def on_profile(frame: FrameType, event: str, arg: Any) -> None:
        if event == "c_call" and known.get(frame.f_code):
            count.calls += 1

    sys.setprofile(on_profile)
    sys.settrace(on_call)


def _stop_tracing() -> None:
    sys.settrace(None)
    sys.setprofile(None)


_trace: tuple[Callable[[Count], None], Callable[[], None]] = (_start_tracing, _stop_tracing)

if sys.version_info >= (3, 12):
    from sys import monitoring

    _TOOL = monitoring.PROFILER_ID

    def _start_monitoring(count: Count) -> None:
        known: dict[CodeType, bool] = {}

        def counts(code: CodeType) -> bool:
            known[code] = _counts(code)
            return known[code]

        def on_instruction(code: CodeType, offset: int) -> object:
            if not (known[code] if code in known else counts(code)):
                return monitoring.DISABLE
            count.instructions += 1
            return None

        def on_c_return(code: CodeType, offset: int, function: object, argument: object) -> object:
            if known[code] if code in known else counts(code):
                count.calls += 1
            return None

        def ignore(code: CodeType, offset: int, function: object, argument: object) -> object:
            return None

        seen = monitoring.events
        monitoring.use_tool_id(_TOOL, "sealane benchmarks")
        monitoring.register_callback(_TOOL, seen.INSTRUCTION, on_instruction)
        # The returns from C are seen only where the calls are.
        monitoring.register_callback(_TOOL, seen.CALL, ignore)
        monitoring.register_callback(_TOOL, seen.C_RETURN, on_c_return)
        monitoring.register_callback(_TOOL, seen.C_RAISE, on_c_return)
        monitoring.set_events(_TOOL, seen.INSTRUCTION | seen.CALL)

    def _stop_monitoring() -> None:
        seen = monitoring.events
        monitoring.set_events(_TOOL, seen.NO_EVENTS)
        for event in (seen.INSTRUCTION, seen.CALL, seen.C_RETURN, seen.C_RAISE):
            monitoring.register_callback(_TOOL, event, None)
        monitoring.free_tool_id(_TOOL)

    _monitor = (_start_monitoring, _stop_monitoring)
else:
    _monitor = _trace
