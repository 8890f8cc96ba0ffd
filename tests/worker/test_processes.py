"""Workers as processes of their own over real servers: signals, kills, outages. Nothing is lost."""

import secrets
import signal
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from sealane.layers import RedisChannelLayer
from tests.servers import SentinelGroup, Server
from tests.servers.ports import free_port
from tests.worker.process import Project

pytestmark = pytest.mark.untraced

#: With leases that no busy machine outlasts, so that what comes twice shows.
ACK = ("--ack", "--retry-delay=0.05")

#: Leases that are over soon, where what a worker had is to come again, and where it does no harm if more does.
SHORT = ("--visibility-timeout=1", *ACK)

Make = Callable[..., Project]


class Place:
    """A server, or a group of them, and a layer over it that workers and this process share."""

    def __init__(self, hosts: Any) -> None:
        self.config: dict[str, Any] = {"hosts": [hosts], "prefix": f"w{secrets.token_hex(4)}", "capacity": 5000}
        self.layer = RedisChannelLayer(**self.config)

    @property
    def layers(self) -> dict[str, Any]:
        return {"default": {"BACKEND": "sealane.layers.RedisChannelLayer", "CONFIG": self.config}}

    def send(self, *numbers: int, channel: str = "jobs", **job: Any) -> None:
        for n in numbers:
            self.layer.sync.send(channel, {"type": "job.do", "n": n, **job})

    def dead_letter(self, channel: str = "jobs.dead") -> dict[str, Any]:
        return self.layer.sync.receive(channel, timeout=30)


def on(*places: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("place", places, indirect=True)


@pytest.fixture
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    if request.param == "sentinel":
        group: SentinelGroup = request.getfixturevalue("sentinel_group")
        made = Place(group.hosts)
    else:
        server: Server = request.getfixturevalue(f"{request.param}_server")
        made = Place(server.url)
    yield made
    made.layer.sync.close()


@pytest.fixture
def valkey(valkey_server: Server) -> Iterator[Place]:
    made = Place(valkey_server.url)
    yield made
    made.layer.sync.close()


@on("valkey", "redis", "sentinel")
def test_of_20_jobs_the_third_raises_19_are_done_and_one_is_a_dead_letter(place: Place, project: Make) -> None:
    jobs = project(place.layers)
    worker = jobs.worker("jobs", "--max-deliveries=3", *ACK)
    place.send(1, 2)
    place.send(3, fails=True)
    place.send(*range(4, 21))
    dead = place.dead_letter()
    jobs.wait(lambda: len(jobs.count("done")) == 19, "19 jobs are done")
    assert set(jobs.count("done").values()) == {1}
    assert jobs.count("begin")[3] == 3
    assert (dead["reason"], dead["message"]["n"]) == ("ValueError: job 3 is bad", 3)
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0, worker.output


@on("redis", "sentinel")
def test_sigterm_under_load_ends_what_runs_and_hands_back_the_rest(place: Place, project: Make) -> None:
    jobs = project(place.layers)
    count = 200
    first, second = jobs.workers(2, "jobs", "--concurrency=4", "--prefetch=8", *ACK)
    place.send(*range(count), seconds=0.05)
    jobs.wait(
        lambda: sum(entry.pid == first.pid and entry.what == "done" for entry in jobs.entries()) > 10,
        "the first worker is at work",
    )
    first.signal(signal.SIGTERM)
    assert first.wait() == 0, first.output
    jobs.wait(lambda: len(jobs.count("done")) == count, "the second worker does the rest")
    # Nothing was lost, and nothing was begun twice: what the first one had begun it has ended.
    assert jobs.count("begin") == jobs.count("done") == dict.fromkeys(range(count), 1)
    assert {entry.attempt for entry in jobs.entries()} == {1}
    assert {entry.pid for entry in jobs.entries()} == {first.pid, second.pid}


@on("redis", "sentinel")
def test_kill_9_of_one_of_three_workers_loses_nothing(place: Place, project: Make) -> None:
    jobs = project(place.layers)
    victim = jobs.workers(3, "jobs", "--concurrency=5", "--prefetch=5", *SHORT)[1]

    def in_hand() -> set[int]:
        """What the victim has begun, and not done."""
        entries = [entry for entry in jobs.entries() if entry.pid == victim.pid]
        begun, done = ({entry.job for entry in entries if entry.what == what} for what in ("begin", "done"))
        return begun - done

    short = range(150)
    # Long enough for this process to notice on a busy machine that one has begun, and to kill before it is done. Two
    # workers can have twenty, with what they prefetch, so that some are left for the third.
    long = range(150, 175)
    place.send(*short, seconds=0.05)
    place.send(*long, seconds=3)
    jobs.wait(lambda: in_hand() & {*long}, "the victim is in the midst of a long job")
    victim.signal(signal.SIGKILL)
    jobs.wait(lambda: len(jobs.count("done")) == len(short) + len(long), "everything is done")
    # What the victim had begun came again, and was counted.
    again = {entry.job for entry in jobs.entries() if entry.attempt > 1}
    assert in_hand() <= again
    assert len(again) >= 1


def test_a_synchronous_job_outlasts_its_lease_and_sigterm(valkey: Place, project: Make) -> None:
    jobs = project(valkey.layers)
    workers = jobs.workers(2, "blocking", "--ack", "--visibility-timeout=4")
    valkey.send(1, channel="blocking", seconds=6)
    jobs.wait(lambda: jobs.count("begin")[1] == 1, "it has begun")
    (pid,) = {entry.pid for entry in jobs.entries()}
    (busy,) = [worker for worker in workers if worker.pid == pid]
    busy.signal(signal.SIGTERM)
    assert busy.wait() == 0, busy.output
    assert jobs.count("begin") == jobs.count("done") == {1: 1}


def test_a_second_signal_cancels_what_runs_and_hands_it_back(valkey: Place, project: Make) -> None:
    jobs = project(valkey.layers)
    worker = jobs.worker("jobs", *ACK)
    valkey.send(1, seconds=3600)
    jobs.wait(lambda: jobs.count("begin")[1] == 1, "it has begun")
    worker.signal(signal.SIGINT)
    worker.wait_for("the worker takes no more, and ends what runs")
    worker.signal(signal.SIGINT)
    assert worker.wait() == 0, worker.output
    assert "was cancelled, and is handed back: the worker stops" in worker.output
    jobs.worker("jobs", *ACK)
    jobs.wait(lambda: jobs.count("begin")[1] == 2, "another worker has it")
    # It was no failure of the job's, so it is not counted as one.
    assert [entry.attempt for entry in jobs.entries()] == [1, 1]


def test_a_thread_that_hangs_does_not_hold_the_process(valkey: Place, project: Make) -> None:
    jobs = project(valkey.layers)
    worker = jobs.worker("blocking", "--ack", "--shutdown-timeout=0.2", "--cancel-timeout=0.2")
    valkey.send(1, channel="blocking", seconds=3600)
    jobs.wait(lambda: jobs.count("begin")[1] == 1, "it has begun")
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0, worker.output
    assert "but its handler still runs after cancel_timeout = 0.2 s" in worker.output
    assert "A thread did not end in 3.5 s; leaving without it." in worker.output


@pytest.mark.parametrize("options", [SHORT, ()], ids=["ack", "plain"])
def test_a_server_that_goes_and_comes_back_is_outlasted(
    project: Make, new_server: Callable[..., Server], options: tuple[str, ...]
) -> None:
    server = new_server(appendonly=True)
    place = Place(server.url)
    # The worker waits so long for a server before it says so.
    place.config["timeout"] = 3
    jobs = project(place.layers)
    worker = jobs.worker("jobs", "--concurrency=3", *options)
    place.send(*range(5))
    jobs.wait(lambda: len(jobs.count("done")) == 5, "the first jobs are done")
    place.send(5, 6, 7, seconds=1)
    jobs.wait(lambda: len(jobs.count("begin")) == 8, "three are at work")
    server.kill()
    jobs.wait(lambda: len(jobs.count("done")) == 8, "they end, though nobody can be told")
    worker.wait_for("The worker waits for its channel layer")
    server.start()
    place.send(*range(8, 13))
    jobs.wait(lambda: len(jobs.count("done")) == 13, "the worker goes on")
    worker.wait_for("The worker goes on")
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0, worker.output
    # One line for all the calls that waited.
    assert worker.output.count("The worker waits for its channel layer") == 1, worker.output
    assert "Traceback" not in worker.output
    place.layer.sync.close()


def test_without_acknowledgements_20_jobs_the_third_raises_19_are_done(valkey: Place, project: Make) -> None:
    jobs = project(valkey.layers, JOBS_DEBUG="1")
    worker = jobs.worker("jobs", "--noreload")
    # This very process, not a child that is started anew: DEBUG is on.
    assert f"Worker {worker.pid} on jobs: at most once, 1 at a time, by RedisChannelLayer 'default'." in worker.output
    valkey.send(1, 2)
    valkey.send(3, fails=True)
    valkey.send(*range(4, 21))
    jobs.wait(lambda: len(jobs.count("done")) == 19, "19 jobs are done")
    assert [entry.job for entry in jobs.entries() if entry.what == "begin"] == list(range(1, 21))
    assert "A message on channel 'jobs' failed, and is dropped" in worker.output
    worker.signal(signal.SIGINT)
    assert worker.wait() == 0, worker.output


# Development

#: What the parent of the reloader says where its child could not begin.
WAITS = "It ended with status 1. Waiting for a source file to change."


def test_a_changed_source_file_starts_the_worker_anew(valkey: Place, project: Make) -> None:
    jobs = project(valkey.layers, JOBS_DEBUG="1")
    worker = jobs.worker("jobs", *ACK)
    valkey.send(1)
    jobs.wait(lambda: jobs.count("done")[1] == 1, "the first version does it")
    # A job that would run for an hour is cut short, and begun again by the next process.
    valkey.send(2, seconds=3600)
    jobs.wait(lambda: jobs.count("begin")[2] == 1, "a long job has begun")
    old = (jobs.directory / "work.py").read_text()
    quick = old.replace('message.get("seconds", 0)', "0")
    worker.rewrite("work.py", quick.replace('VERSION = "first"', 'VERSION = "second"'))
    jobs.wait(lambda: jobs.count("done")[2] == 1, "the second version does it")
    assert jobs.entries()[-1].version == "second"

    # What somebody is typing need not be Python yet.
    worker.rewrite("work.py", "def half a line")
    worker.wait_for(WAITS)
    (jobs.directory / "work.py").write_text(old.replace('VERSION = "first"', 'VERSION = "third"'))
    valkey.send(3)
    jobs.wait(lambda: jobs.count("done")[3] == 1, "the third version does it")
    assert jobs.entries()[-1].version == "third"
    worker.signal(signal.SIGINT)
    assert worker.wait() == 0, worker.output


# Inside the development server


MEMORY = {"default": {"BACKEND": "sealane.layers.InMemoryChannelLayer"}}


@pytest.mark.parametrize("reloading", [False, True], ids=["noreload", "reload"])
def test_runserver_has_a_worker_inside_over_the_in_memory_layer(project: Make, reloading: bool) -> None:
    jobs = project(MEMORY, JOBS_DEBUG="1")
    port = free_port()
    options = [] if reloading else ["--noreload"]
    server = jobs.start("runserver", str(port), "--worker=jobs", "--worker", "blocking", *options)
    server.wait_for("Worker on jobs, blocking, in this process.")

    def send(n: int) -> None:
        def answers() -> bool:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/send?n={n}", timeout=30) as response:
                return bool(response.read() == b"sent")

        # The server may be about to start anew.
        jobs.wait(answers, "the server answers")

    send(1)
    jobs.wait(lambda: jobs.count("done")[1] == 1, "the job is done")
    # It is acknowledged, so it has a delivery.
    assert {entry.attempt for entry in jobs.entries()} == {1}
    if reloading:
        old = (jobs.directory / "work.py").read_text()
        server.rewrite("work.py", old.replace('VERSION = "first"', 'VERSION = "second"'))
        server.wait_for("Worker on jobs", count=2)
        send(2)
        jobs.wait(lambda: jobs.count("done")[2] == 1, "the second version does it")
        assert jobs.entries()[-1].version == "second"
    else:
        (pid,) = {entry.pid for entry in jobs.entries()}
        assert pid == server.pid
    server.signal(signal.SIGTERM)
    assert server.wait() == 0, server.output
    assert "Traceback" not in server.output
