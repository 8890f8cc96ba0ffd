"""The how-to guides: their code runs, and does what they say."""

import asyncio
import re
from decimal import Decimal
from importlib import import_module
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import AnonymousUser, Permission, User
from django.test import RequestFactory, override_settings

from sealane.consumers import (
    AsyncConsumer,
    AsyncEventStreamConsumer,
    AsyncJsonWebsocketConsumer,
    AsyncWebsocketConsumer,
    dispatch,
)
from sealane.consumers.threads import thread_count
from sealane.exceptions import WebsocketDenied
from sealane.layers import InMemoryChannelLayer
from sealane.layers.delivery import DEAD_LETTER_EXPIRY
from sealane.routing import OriginValidator, not_found
from sealane.server.access import HTTPExchange, WebSocketExchange
from sealane.testing import HttpCommunicator
from sealane.types import ASGIApplication
from sealane.worker import Worker
from tests.docs.conftest import after
from tests.docs.project import Project
from tests.docs.reading import Reading
from tests.docs.snippets import DOCS, blocks_of
from tests.patient import PatientCommunicator

HOW_TO = DOCS / "how-to"


def socket(consumer: Any, *, user: Any = None, **kwargs: Any) -> PatientCommunicator:
    """A client of one consumer, with the scope that middleware and routes would make."""
    communicator = PatientCommunicator(consumer.as_asgi(), "/")
    communicator.scope |= {"user": user or AnonymousUser(), "url_route": {"args": (), "kwargs": kwargs}}
    return communicator


@pytest.mark.untraced
def test_test_consumers(step_2: Project, tmp_path_factory: pytest.TempPathFactory) -> None:
    project = Project(after(2, step_2, tmp_path_factory))
    project.follow(HOW_TO / "test-consumers.md")


class TestHandleErrors:
    PAGE = HOW_TO / "handle-errors.md"

    async def test_bad_input_is_answered(self, reading: Reading, layer: InMemoryChannelLayer) -> None:
        names = await reading.read(self.PAGE)
        async with socket(names["OrderConsumer"]) as page:
            await page.send_json_to({"action": "order", "tea": "Assam"})
            assert await page.receive_json_from() == {"ordered": "Assam"}
            await page.send_json_to({"action": "order", "tea": 5})
            assert await page.receive_json_from() == {"error": "Expected an action and a tea."}

    async def test_on_error_decides(self, reading: Reading, layer: InMemoryChannelLayer) -> None:
        names = await reading.read(self.PAGE)
        async with socket(names["PatientConsumer"]) as page:
            for frame, answer in [
                ('{"number": 4}', {"half": 2.0}),
                ("{}", {"error": "KeyError"}),
                ("not JSON", {"error": "InvalidJSON"}),
            ]:
                await page.send_to(frame)
                assert await page.receive_json_from() == answer

    async def test_the_policy_log(
        self, reading: Reading, layer: InMemoryChannelLayer, caplog: pytest.LogCaptureFixture
    ) -> None:
        names = await reading.read(self.PAGE)
        async with socket(names["StubbornConsumer"]) as page:
            await page.send_json_to({})
            await page.send_json_to({"number": 4})
            assert await page.receive_json_from() == {"half": 2.0}
            assert "KeyError" in caplog.text
            await page.send_to("not JSON")
            assert await page.receive_close() == 1007

    async def test_a_code_of_ones_own(self, reading: Reading, layer: InMemoryChannelLayer) -> None:
        names = await reading.read(self.PAGE)
        consumer = type("Member", (names["MemberConsumer"],), {"groups": ["members"]})
        async with socket(consumer) as page:
            await layer.group_send("members", {"type": "membership.ended"})
            assert await page.receive_close() == 4001
            assert page.close_reason == "Your membership has ended"

    @pytest.mark.parametrize(
        ("frame", "code", "level"),
        [("not JSON", 1007, "WARNING"), ('"\ud800"', 1007, "WARNING"), (b"binary", 1003, "WARNING")],
    )
    async def test_the_table_of_frames(
        self, frame: str | bytes, code: int, level: str, layer: InMemoryChannelLayer, caplog: pytest.LogCaptureFixture
    ) -> None:
        async with socket(AsyncJsonWebsocketConsumer) as page:
            await page.send_to(**{"text_data" if isinstance(frame, str) else "bytes_data": frame})  # type: ignore[arg-type]
            assert await page.receive_close() == code
        assert [(record.name, record.levelname) for record in caplog.records] == [("sealane.consumers", level)]

    async def test_the_table_of_handlers(self, layer: InMemoryChannelLayer, caplog: pytest.LogCaptureFixture) -> None:
        codes = []

        class Clumsy(AsyncJsonWebsocketConsumer):
            groups = ["clumsy"]

            async def receive_json(self, content: Any, **kwargs: Any) -> None:
                raise ZeroDivisionError

            async def disconnect(self, code: int) -> None:
                codes.append(code)
                raise RuntimeError("in disconnect()")

        page = socket(Clumsy)
        assert await page.connect() == (True, None)
        await layer.group_send("clumsy", {"type": "unheard.of"})
        await page.send_json_to({})
        assert await page.receive_close() == 1011
        with pytest.raises(ZeroDivisionError):
            await page.wait()
        assert codes == [1011]
        assert layer.stats()["channels"] == 0
        assert [(record.levelname, record.exc_info is not None) for record in caplog.records] == [
            ("WARNING", False),
            ("ERROR", True),
        ]

    async def test_an_error_before_the_accept_that_passes(self, layer: InMemoryChannelLayer) -> None:
        class Silent(AsyncWebsocketConsumer):
            error_policy = "log"

            async def connect(self) -> None:
                raise ZeroDivisionError

        communicator = socket(Silent)
        assert await communicator.connect() == (False, 500)
        await communicator.wait()


class TestSpawnTasks:
    PAGE = HOW_TO / "spawn-tasks.md"

    async def test_work_beside_the_handlers(self, reading: Reading, layer: InMemoryChannelLayer) -> None:
        names = await reading.read(self.PAGE)
        async with socket(names["ReportConsumer"]) as page:
            await page.send_json_to({"pages": 2})
            await page.send_json_to({"pages": 0})
            # The second message was handled while the first one's task was at work.
            said = [await page.receive_json_from() for _ in range(4)]
        assert said == [{"started": 2}, {"started": 0}, {"page": 1}, {"page": 2}]

    async def test_a_task_from_the_beginning(self, reading: Reading, layer: InMemoryChannelLayer) -> None:
        names = await reading.read(self.PAGE)
        async with socket(names["ClockConsumer"]) as page:
            assert await page.receive_json_from() == {"tick": 1}
        assert [task.get_name() for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []

    async def test_a_client_that_leaves_is_noticed(self, reading: Reading, layer: InMemoryChannelLayer) -> None:
        search = (await reading.read(self.PAGE))["SearchConsumer"]
        async with socket(search) as page:
            await page.send_json_to("tea")
            while not search.steps:
                await asyncio.sleep(0)
        # `async with` has waited until the consumer had ended.
        assert search.steps < 100

    def test_the_bounds_are_the_codes(self) -> None:
        text = self.PAGE.read_text()
        assert f"up to {dispatch.READ_AHEAD} messages or {dispatch.READ_AHEAD_BYTES // 1024} KiB" in text
        assert f"`end_timeout` seconds ({AsyncConsumer.end_timeout:g} by default)" in text


class TestEventStreams:
    PAGE = HOW_TO / "event-streams.md"

    async def test_events_that_it_makes(self, reading: Reading, layer: InMemoryChannelLayer) -> None:
        application: ASGIApplication = (await reading.read(self.PAGE))["application"]
        async with HttpCommunicator(application, "GET", "/countdown/") as page:
            response = await page.get_response()
        assert response["body"].decode() == ":\n\n" + "".join(
            f'event: countdown\nid: {number}\ndata: {{"left": {number}}}\n\n' for number in (3, 2, 1)
        )
        headers = dict(response["headers"])
        assert headers[b"content-type"] == b"text/event-stream; charset=utf-8"
        assert b"no-transform" in headers[b"cache-control"]
        assert b"x-accel-buffering" in headers

    async def test_events_from_the_channel_layer(self, reading: Reading, layer: InMemoryChannelLayer) -> None:
        application = (await reading.read(self.PAGE))["application"]
        send = sync_to_async(layer.sync.group_send)
        async with HttpCommunicator(application, "GET", "/prices/") as page:
            assert await page.receive_chunk() == b":\n\n"
            await send("prices", {"type": "price.changed", "price": Decimal("1.50")})
            assert await page.receive_chunk() == b'event: price\ndata: {"price": "1.50"}\n\n'

    async def test_everything_else_is_djangos(self, reading: Reading) -> None:
        application = (await reading.read(self.PAGE))["application"]
        async with HttpCommunicator(application, "GET", "/") as page:
            assert (await page.get_response())["body"] == b"Django: /"

    @pytest.mark.parametrize(("seen", "entries"), [(None, ["one", "two", "three"]), ("2", ["three"])])
    async def test_it_goes_on_where_the_client_was(
        self, seen: str | None, entries: list[str], reading: Reading, layer: InMemoryChannelLayer
    ) -> None:
        names = await reading.read(self.PAGE)
        headers = {} if seen is None else {"Last-Event-ID": seen}
        async with HttpCommunicator(names["LogConsumer"].as_asgi(), "GET", "/", headers=headers) as page:
            body = (await page.get_response())["body"].decode()
        assert re.findall("data: (.*)", body) == entries
        assert body.startswith("retry: 2000\n\n")

    def test_the_interval_is_the_codes(self) -> None:
        assert f"every {AsyncEventStreamConsumer.keep_alive:g} seconds" in self.PAGE.read_text()


class TestDenyConnections:
    PAGE = HOW_TO / "deny-connections.md"

    async def test_members_only(self, reading: Reading, layer: InMemoryChannelLayer) -> None:
        members = (await reading.read(self.PAGE))["MembersConsumer"]
        stranger = socket(members)
        assert await stranger.connect() == (False, 401)
        assert stranger.denial == {
            "status": 401,
            "headers": [(b"content-type", b"text/plain; charset=utf-8")],
            "body": b"Log in first.",
        }
        await stranger.disconnect()
        with pytest.raises(WebsocketDenied, match=r"403 and the body b'This account is closed\.'"):
            async with socket(members, user=User(username="ada", is_active=False)):
                pass
        async with socket(members, user=User(username="ada")):
            pass

    async def test_without_an_exception(self, reading: Reading, layer: InMemoryChannelLayer) -> None:
        names = await reading.read(self.PAGE)
        with pytest.raises(WebsocketDenied, match=r"503 and the body b'Back at noon\.'"):
            async with socket(names["ClosedConsumer"]):
                pass

    async def test_the_middleware(self, reading: Reading, layer: InMemoryChannelLayer) -> None:
        names = await reading.read(self.PAGE)
        application = names["MembersOnly"](AsyncWebsocketConsumer.as_asgi())
        for user, answer in [(AnonymousUser(), (False, 401)), (User(username="ada"), (True, None))]:
            communicator = PatientCommunicator(application, "/")
            communicator.scope["user"] = user
            assert await communicator.connect() == answer
            await communicator.disconnect()

    async def test_a_server_without_the_extension(self, layer: InMemoryChannelLayer, reading: Reading) -> None:
        members = (await reading.read(self.PAGE))["MembersConsumer"]
        communicator = PatientCommunicator(members.as_asgi(), "/", denial_response=False)
        communicator.scope["user"] = AnonymousUser()
        # A close before the accept: servers answer it with 403.
        assert await communicator.connect() == (False, 1000)
        assert communicator.denial is None
        await communicator.disconnect()


class TestAuthenticate:
    PAGE = HOW_TO / "authenticate.md"

    @pytest.mark.django_db(transaction=True)
    async def test_users_of_pages(self, reading: Reading, layer: InMemoryChannelLayer) -> None:
        application = (await reading.read(self.PAGE))["application"]
        ada = await User.objects.acreate_user("ada")
        for path, anonymous, member in [("inbox", 401, True), ("audit", 401, 403), ("staff", 401, 403)]:
            for user, expected in [(None, anonymous), (ada, member)]:
                page = PatientCommunicator(application, f"/ws/{path}/")
                if user is not None:
                    await page.login(user)
                accepted, code = await page.connect()
                assert (accepted or code) == expected
                await page.disconnect()
        page = await PatientCommunicator(application, "/ws/inbox/").login(ada)
        async with page:
            await page.send_json_to({"subject": "Tea"})
            assert await page.receive_json_from() == {"from": "ada", "subject": "Tea"}
            ada.is_active = False
            await ada.asave()
            assert await page.receive_close() == 4401

    @pytest.mark.django_db(transaction=True)
    async def test_tokens(self, reading: Reading, layer: InMemoryChannelLayer) -> None:
        names = await reading.read(self.PAGE)
        ada = await User.objects.acreate_user("ada")
        token = "5up3r-s3cr3t"

        def visit(application: str, **options: Any) -> PatientCommunicator:
            return PatientCommunicator(names[application], "/ws/inbox/", **options)

        header = {"Authorization": f"Bearer {token}"}
        clients = [
            visit("token_application", headers=header),
            visit("token_application", subprotocols=["bearer", token]),
            visit("message_application", headers=header),
            visit("message_application"),
            visit("mixed_application", headers=header),
            await visit("mixed_application").login(ada),
        ]
        for client in clients:
            async with client:
                if client is clients[3]:
                    await client.send_json_to({"token": token})
                await client.send_json_to({"subject": "Tea"})
                assert await client.receive_json_from() == {"from": "ada", "subject": "Tea"}
        for application, client_headers in [
            ("token_application", {}),
            ("token_application", {"Authorization": "Bearer other"}),
            ("mixed_application", {}),
        ]:
            stranger = visit(application, headers=client_headers)
            assert await stranger.connect() == (False, 401)
            await stranger.disconnect()

    @pytest.mark.django_db(transaction=True)
    async def test_looking_again(self, reading: Reading, layer: InMemoryChannelLayer) -> None:
        consumer = (await reading.read(self.PAGE))["AuditConsumer"]
        assert consumer.revalidate == 60
        consumer.revalidate = 0.01
        ada = await User.objects.acreate_user("ada", first_name="Ada", last_name="Lovelace")
        view = await Permission.objects.aget(codename="view_user")
        await ada.user_permissions.aadd(view)
        async with socket(consumer, user=await User.objects.aget()) as page:
            await page.send_to("Who am I?")
            assert await page.receive_from() == "You are Ada Lovelace."
            await ada.user_permissions.aremove(view)
            assert await page.receive_close() == 4403


class TestSyncConsumers:
    PAGE = HOW_TO / "sync-consumers.md"

    @pytest.mark.django_db(transaction=True)
    async def test_the_orm_and_the_layer(self, reading: Reading, layer: InMemoryChannelLayer) -> None:
        names = await reading.read(self.PAGE)
        for username in ("ada", "alan", "grace"):
            await User.objects.acreate(username=username)
        async with socket(names["SearchConsumer"]) as page:
            await page.send_json_to({"begins": "a"})
            assert await page.receive_json_from() == {"found": ["ada", "alan"]}
            assert await page.receive_json_from() == {"somebody searched": "a"}
        assert await names["usernames"]("g") == ["grace"]

    async def test_work_beside_the_handlers(self, reading: Reading, layer: InMemoryChannelLayer) -> None:
        names = await reading.read(self.PAGE)
        async with socket(names["CountConsumer"]) as page:
            await page.send_to("3")
            assert [await page.receive_from() for _ in range(3)] == ["0", "1", "2"]

    async def test_the_setting(self, reading: Reading) -> None:
        names = await reading.read(self.PAGE)
        with override_settings(SEALANE_THREADS=names["SEALANE_THREADS"]):
            assert thread_count() == 20


class TestRunTheDevelopmentServer:
    PAGE = HOW_TO / "run-the-development-server.md"

    def test_the_lines_are_the_codes(self) -> None:
        scope = {"client": ["127.0.0.1", 50112], "query_string": b""}
        request = HTTPExchange({**scope, "method": "GET", "path": "/chat/lobby/"}, now=0)
        request.sent({"type": "http.response.start", "status": 200}, now=0)
        lobby, attic = (
            WebSocketExchange({"client": ["127.0.0.1", port], "path": path})
            for port, path in [(50114, "/ws/chat/lobby/"), (50116, "/ws/chat/attic/")]
        )
        lines = [
            request.sent({"type": "http.response.body"}, now=0.01),
            lobby.sent({"type": "websocket.accept"}),
            lobby.received({"type": "websocket.disconnect", "code": 1001}),
            attic.sent({"type": "websocket.close"}),
        ]
        [shown] = [block.text for block in blocks_of(self.PAGE) if block.language == "text"]
        assert shown.splitlines() == [line.message % line.args for line in lines if line is not None]


class TestMoveFromChannels:
    ROWS = re.findall(
        r"\| `(channels[\w.]*)\.(\w+)` \| `(sealane[\w.]*)\.(\w+)` \|", (HOW_TO / "move-from-channels.md").read_text()
    )

    @pytest.mark.parametrize(("module", "name"), [(row[2], row[3]) for row in ROWS])
    def test_the_name_is_there(self, module: str, name: str) -> None:
        assert name in import_module(module).__all__

    def test_no_name_is_forgotten(self) -> None:
        named = {(module, name) for _, _, module, name in self.ROWS}
        for module in ("sealane.consumers", "sealane.routing"):
            ours = {(module, name) for name in import_module(module).__all__}
            # What Channels does not have.
            delivered = ("DeliveredMessage", "MessageDelivery")
            guards = ("login_required", "permission_required", "user_passes_test")
            ours -= {("sealane.consumers", name) for name in ("AsyncEventStreamConsumer", "WebsocketDemultiplexer")}
            ours -= {("sealane.consumers", name) for name in (*guards, *delivered)}
            ours -= {("sealane.routing", name) for name in ("Drain", "TokenAuthMiddleware", "not_found")}
            assert ours <= named

    async def test_what_connect_returns_for_a_refusal(self) -> None:
        refuses = OriginValidator(AsyncWebsocketConsumer.as_asgi(), ["example.com"])
        answers: list[tuple[ASGIApplication, int]] = [(refuses, 403), (not_found, 404)]
        for application, status in answers:
            for with_response, code in [(True, status), (False, 1000)]:
                client = PatientCommunicator(application, "/", denial_response=with_response)
                assert await client.connect() == (False, code)
                assert (client.denial is not None) is with_response
                await client.disconnect()

    def test_the_names_of_channels_are_there(self) -> None:
        pytest.importorskip("channels", reason="Channels is not installed: pip install -e '.[bench]'")
        for module, name, _, _ in self.ROWS:
            assert hasattr(import_module(module), name)


class TestLimitConnections:
    PAGE = HOW_TO / "limit-connections.md"

    async def test_the_table_of_what_a_client_does(self, reading: Reading, layer: InMemoryChannelLayer) -> None:
        names = await reading.read(self.PAGE)
        async with socket(names["ChatConsumer"]) as page:
            await page.send_json_to({"text": "x" * 16_000})
            assert await page.receive_json_from() == {"length": 16_000}
            await page.send_json_to({"text": "x" * 16 * 1024})
            assert await page.receive_close() == 1009
        async with socket(names["ChatConsumer"]) as page:
            for _ in range(40):
                await page.send_json_to({"text": "x"})
            assert await after_frames(page) == 1008
        counted = names["ChatConsumer"].limit_counters
        assert (counted["refused_size"], counted["refused_rate"]) == (1, 1)

    async def test_on_error_keeps_a_client_that_is_too_fast(
        self, reading: Reading, layer: InMemoryChannelLayer
    ) -> None:
        names = await reading.read(self.PAGE)
        async with socket(names["PatientConsumer"]) as page:
            for number in range(3):
                await page.send_json_to(number)
            assert await page.receive_json_from() == {"got": 0}
            assert await page.receive_json_from() == {"error": "Slower, please."}
            assert await page.receive_json_from() == {"error": "Slower, please."}
            await page.send_to(bytes_data=b"x" * 10)
            assert await page.receive_json_from() == {"error": "Slower, please."}

    async def test_groups(self, reading: Reading, layer: InMemoryChannelLayer) -> None:
        names = await reading.read(self.PAGE)
        async with socket(names["TickerConsumer"]) as page:
            for symbol, answer in [
                ("A", {"subscribed": "A"}),
                ("B", {"subscribed": "B"}),
                ("A", {"subscribed": "A"}),
                ("C", {"error": "Not more than 2 symbols."}),
            ]:
                await page.send_json_to({"symbol": symbol})
                assert await page.receive_json_from() == answer

    async def test_a_queue_for_a_slow_client(self, reading: Reading, layer: InMemoryChannelLayer) -> None:
        names = await reading.read(self.PAGE)
        async with socket(names["PricesConsumer"]) as page:
            await layer.group_send("prices", {"type": "price.changed", "price": {"A": "1.20"}})
            assert await page.receive_json_from() == {"A": "1.20"}


async def after_frames(page: PatientCommunicator) -> Any:
    """The code of the close that follows some frames."""
    while (event := await page.receive_output())["type"] == "websocket.send":
        pass
    return event["code"]


class TestRunWorkers:
    PAGE = HOW_TO / "run-workers.md"

    @pytest.mark.django_db(transaction=True)
    async def test_a_view_orders_a_report_and_the_page_sees_the_progress(
        self, reading: Reading, layer: InMemoryChannelLayer
    ) -> None:
        names = await reading.read(self.PAGE)
        user = await User.objects.acreate_user("ada")
        request = RequestFactory().post("/")
        request.user = user
        async with (
            socket(names["ProgressConsumer"], user=user) as page,
            Worker(names["mysite.asgi"].application, ["reports"], layer, ack=True),
        ):
            response = await sync_to_async(names["reports.views"].order)(request)
            assert response.status_code == 202
            assert [await page.receive_json_from() for _ in range(3)] == [
                {"percent": percent} for percent in (33, 66, 100)
            ]

    async def test_a_job_runs_twice_and_is_done_once(self, reading: Reading, layer: InMemoryChannelLayer) -> None:
        names = await reading.read(self.PAGE)
        for _ in range(2):
            await layer.send("invoices", {"type": "invoice.send", "number": 7})
        async with Worker(names["InvoiceConsumer"].as_asgi(), ["invoices"], layer, ack=True):
            while layer.stats()["waiting"]:
                await asyncio.sleep(0.001)
        assert names["sent"] == {7}

    async def test_a_handler_rejects_and_retries(
        self, reading: Reading, layer: InMemoryChannelLayer, caplog: pytest.LogCaptureFixture
    ) -> None:
        names = await reading.read(self.PAGE)
        for amount, bank in [(0, "open"), (5, "closed"), (5, "open")]:
            await layer.send("reports", {"type": "payment.collect", "amount": amount, "bank": bank})
        async with Worker(names["PaymentConsumer"].as_asgi(), ["reports"], layer, ack=True):
            letter = await names["next_dead_letter"]()
            while "was given back by its handler, the next one in 600.0 s" not in caplog.text:
                await asyncio.sleep(0.001)
        assert letter == (
            "There is nothing to pay, after 1 deliveries: {'type': 'payment.collect', 'amount': 0, 'bank': 'open'}"
        )

    async def test_a_worker_inside_a_program_ends_with_its_block(
        self, reading: Reading, layer: InMemoryChannelLayer
    ) -> None:
        names = await reading.read(self.PAGE)
        worker = await names["work_on"](names["mysite.asgi"].application, "reports", "thumbnails")
        assert repr(worker) == "<Worker on reports, thumbnails: not running>"

    def test_the_numbers_are_those_of_the_code(self) -> None:
        text = " ".join(self.PAGE.read_text().split())
        options = Worker(None, ["reports"], InMemoryChannelLayer()).options  # type: ignore[arg-type]
        assert f"`--visibility-timeout` seconds ({options.visibility_timeout:g})" in text
        assert f"After `--max-deliveries` ({options.max_deliveries})" in text
        assert f"`--shutdown-timeout` seconds ({options.shutdown_timeout:g})" in text
        assert f"`--cancel-timeout` seconds ({options.cancel_timeout:g})" in text
        assert (InMemoryChannelLayer().capacity, InMemoryChannelLayer().expiry) == (100, 60)
        assert DEAD_LETTER_EXPIRY == 14 * 86400
