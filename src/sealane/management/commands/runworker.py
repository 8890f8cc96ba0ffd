"""``manage.py runworker``: handle what is sent to named channels, until a signal comes."""

import asyncio
import os
import threading
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser
from django.utils import autoreload

from sealane.layers import DEFAULT_CHANNEL_LAYER, channel_layers
from sealane.layers.delivery import MAX_DELIVERIES, VISIBILITY_TIMEOUT
from sealane.management.workers import make_worker, positive_seconds, seconds, whole
from sealane.server.reloading import LEAVE_AFTER, leave_within, run_with_reloader
from sealane.worker import Worker
from sealane.worker.running import run_until_signal

__all__ = ["Command"]

#: Under the autoreloader a process has to be gone soon: seconds for what runs, and for what is cancelled then.
RELOAD_SHUTDOWN, RELOAD_CANCEL = 2.0, 0.5


class Command(BaseCommand):
    """Run a worker over the channels that are named, as the whole of a process."""

    help = "Handles what is sent to named channels, by the consumers of ASGI_APPLICATION's ChannelNameRouter."

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._stop_asked = threading.Event()
        self._ended = threading.Event()
        self._running: tuple[Worker, asyncio.AbstractEventLoop] | None = None

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the options. They are those of Worker."""
        parser.add_argument("channels", nargs="+", metavar="CHANNEL", help="The channels to take messages from.")
        parser.add_argument(
            "--layer",
            default=DEFAULT_CHANNEL_LAYER,
            metavar="NAME",
            help="The alias in CHANNEL_LAYERS of the layer to use. Default: %(default)s.",
        )
        parser.add_argument(
            "--concurrency",
            type=whole(1),
            default=1,
            metavar="N",
            help="How many messages of a channel are handled at once, each by a consumer instance of its own. With "
            "%(default)s, the default, they are handled in order.",
        )
        parser.add_argument(
            "--prefetch",
            type=whole(0),
            default=0,
            metavar="N",
            help="How many messages of a channel are taken beyond those, and wait in this worker. Default: "
            "%(default)s.",
        )
        parser.add_argument(
            "--ack",
            action="store_true",
            help="Acknowledge each message when its handler has returned, and deliver it again where that did not "
            "happen: at least once. Without it: at most once.",
        )
        parser.add_argument(
            "--visibility-timeout",
            type=positive_seconds,
            default=VISIBILITY_TIMEOUT,
            metavar="SECONDS",
            help="With --ack: after how long the message of a worker that was lost is delivered again. A job may take "
            "longer while its worker lives. Default: %(default)g.",
        )
        parser.add_argument(
            "--max-deliveries",
            type=whole(1),
            default=MAX_DELIVERIES,
            metavar="N",
            help="With --ack: how many times a message is delivered before it goes to the dead letters. Default: "
            "%(default)s.",
        )
        parser.add_argument(
            "--dead-letter-channel",
            metavar="NAME",
            help="With --ack: the channel of the dead letters. Default: the channel's name and '.dead'.",
        )
        parser.add_argument(
            "--retry-delay",
            type=seconds,
            default=1.0,
            metavar="SECONDS",
            help="With --ack: after how long a message whose handler failed is delivered again, the first time; twice "
            "as long each further time, up to 5 minutes. Default: %(default)g.",
        )
        parser.add_argument(
            "--shutdown-timeout",
            type=seconds,
            default=30.0,
            metavar="SECONDS",
            help="How long what runs may take to end after SIGTERM or SIGINT. Then, or at a second signal, it is "
            "cancelled. Default: %(default)g.",
        )
        parser.add_argument(
            "--cancel-timeout",
            type=seconds,
            default=10.0,
            metavar="SECONDS",
            help="How long what is cancelled may take to end. What still runs then is left alone, and with --ack "
            "comes again when its lease ends. Default: %(default)g.",
        )
        parser.add_argument(
            "--reload",
            action="store_true",
            default=None,
            dest="use_reloader",
            help="Start anew when a source file changes. The default where DEBUG is on.",
        )
        parser.add_argument("--noreload", action="store_false", dest="use_reloader", help="Do not.")

    def run_from_argv(self, argv: list[str]) -> None:
        """Run the command as the process; it ends in bounded time even where a thread of a handler hangs."""
        super().run_from_argv(argv)
        leave_within(LEAVE_AFTER, 0)

    def handle(self, *args: Any, **options: Any) -> None:
        """Check what was asked for, then work, under the autoreloader if needed."""
        use_reloader = settings.DEBUG if options["use_reloader"] is None else options["use_reloader"]
        if not use_reloader:
            self.work(make(options), options)
            return
        if os.environ.get(autoreload.DJANGO_AUTORELOAD_ENV) != "true":
            # What cannot work at all is said here once. In the child it is an error of a source file being edited.
            make(options)
        run_with_reloader(self.work_in_thread, stop=self.stop_worker, outlive_failures=True, options=options)

    def work(self, worker: Worker, options: dict[str, Any]) -> None:
        """Work until a signal comes, or until ``stop_worker()`` is called in another thread."""
        try:
            asyncio.run(self._work(worker, options))
        finally:
            self._ended.set()

    def work_in_thread(self, options: dict[str, Any]) -> None:
        """Work in the child of the autoreloader, beside the thread that watches the source files."""
        sooner = {
            "shutdown_timeout": min(options["shutdown_timeout"], RELOAD_SHUTDOWN),
            "cancel_timeout": min(options["cancel_timeout"], RELOAD_CANCEL),
        }
        try:
            worker = make({**options, **sooner})
        except BaseException as error:
            self._ended.set()
            # Django watches the file that an error comes from: of the first one, before others were made of it.
            while error.__cause__ is not None:
                error = error.__cause__
            raise error from None
        self.work(worker, options)

    def stop_worker(self) -> None:
        """Have the worker end, and wait for it. Called in the main thread of the autoreloader's child."""
        self._stop_asked.set()
        running = self._running
        if running is not None:
            worker, loop = running
            try:
                loop.call_soon_threadsafe(worker.stop)
            except RuntimeError:
                return  # the loop has ended
            self._ended.wait(LEAVE_AFTER)

    def announce(self, worker: Worker, options: dict[str, Any]) -> None:
        """Say what the worker does, at once: whoever reads it through a pipe waits for it."""
        delivery = "at least once" if options["ack"] else "at most once"
        self.stdout.write(
            f"Worker {os.getpid()} on {', '.join(worker.channels)}: {delivery}, {options['concurrency']} at a time, by "
            f"{type(worker.channel_layer).__name__} {options['layer']!r}. Quit it with CONTROL-C."
        )
        self.stdout.flush()

    async def _work(self, worker: Worker, options: dict[str, Any]) -> None:
        self._running = worker, asyncio.get_running_loop()
        if self._stop_asked.is_set():
            return
        try:
            await run_until_signal(worker, started=lambda: self.announce(worker, options))
        finally:
            for layer in channel_layers.created().values():
                await layer.close()


def make(options: dict[str, Any]) -> Worker:
    """Return the worker that the options ask for."""
    names = (
        "concurrency",
        "prefetch",
        "ack",
        "visibility_timeout",
        "max_deliveries",
        "dead_letter_channel",
        "retry_delay",
        "shutdown_timeout",
        "cancel_timeout",
    )
    return make_worker(options["channels"], options["layer"], **{name: options[name] for name in names})
