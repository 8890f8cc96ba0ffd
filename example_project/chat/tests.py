"""The chat's tests: how to test consumers, and views that broadcast, without a server."""

# ruff: noqa: PT009 -- Django's own test runner runs these, and explains unittest's assertions only.

import uuid
from datetime import timedelta
from typing import Any
from unittest import mock

from django.test import Client, TestCase, TransactionTestCase
from django.utils import timezone

from chat import presence
from chat.models import Message, Room, Visit
from demo.asgi import application
from sealane.exceptions import WebsocketDenied
from sealane.testing import HttpCommunicator, WebsocketCommunicator


def window(slug: str = "lobby", *, origin: str = "http://testserver") -> WebsocketCommunicator:
    """Return a window's connection to a room; `async with` opens and closes it."""
    return WebsocketCommunicator(application, f"/ws/rooms/{slug}/", headers={"origin": origin})


async def join(socket: WebsocketCommunicator, name: str, *, after: int = 0) -> dict[str, Any]:
    """Come in under a name, and return the welcome."""
    await socket.send_json_to({"action": "join", "name": name, "after": after})
    welcome = await receive(socket, "welcome")
    await receive(socket, "presence")  # one's own arrival
    return welcome


async def say(socket: WebsocketCommunicator, text: str) -> dict[str, Any]:
    """Say something, and return the message as the speaker gets it back."""
    await socket.send_json_to({"action": "say", "text": text, "key": uuid.uuid4().hex})
    return await receive(socket, "message")


async def receive(socket: WebsocketCommunicator, kind: str) -> dict[str, Any]:
    """Return what comes next, which must be of this type."""
    event: dict[str, Any] = await socket.receive_json_from()
    assert event["type"] == kind, event
    return event


class TalkTests(TestCase):
    async def test_a_message_reaches_everybody_in_the_room(self) -> None:
        async with window() as ada, window() as grace, window("tea-kitchen") as alan:
            await join(ada, "Ada")
            await join(grace, "Grace")
            await join(alan, "Alan")
            await receive(ada, "presence")

            said = await say(ada, "Hello")

            self.assertEqual(said["name"], "Ada")
            self.assertEqual(await receive(grace, "message"), said)
            self.assertTrue(await alan.receive_nothing())

    async def test_history_is_shown_on_joining(self) -> None:
        room = await Room.objects.aget(slug="lobby")
        for number in range(51):
            await Message.objects.acreate(room=room, name="Ada", text=str(number), key=uuid.uuid4())
        async with window() as grace:
            welcome = await join(grace, "Grace")
        self.assertEqual([message["text"] for message in welcome["messages"]], [str(n) for n in range(1, 51)])
        self.assertTrue(welcome["more"])

    async def test_a_window_that_returns_gets_what_it_missed(self) -> None:
        async with window() as ada:
            await join(ada, "Ada")
            async with window() as grace:
                await join(grace, "Grace")
                await receive(ada, "presence")
                seen = await say(ada, "You see this")
            await receive(ada, "presence")
            missed = await say(ada, "You miss this")
            async with window() as grace:
                welcome = await join(grace, "Grace", after=seen["id"])
        # What was seen last is told once more, and the page knows it by its id.
        self.assertEqual([message["id"] for message in welcome["messages"]], [seen["id"], missed["id"]])
        self.assertFalse(welcome["more"])

    async def test_a_message_that_is_sent_twice_is_kept_once(self) -> None:
        async with window() as ada:
            await join(ada, "Ada")
            twice = {"action": "say", "text": "Once", "key": uuid.uuid4().hex}
            await ada.send_json_to(twice)
            await ada.send_json_to(twice)
            self.assertEqual(await receive(ada, "message"), await receive(ada, "message"))
        self.assertEqual(await Message.objects.acount(), 1)

    async def test_the_room_is_told_who_comes_and_who_leaves(self) -> None:
        async with window() as ada:
            await join(ada, "Ada")
            async with window() as grace:
                welcome = await join(grace, "Grace")
                self.assertEqual(welcome["people"], 2)
                self.assertEqual(
                    await receive(ada, "presence"),
                    {"type": "presence", "name": "Grace", "change": "joined", "people": 2},
                )
            self.assertEqual(
                await receive(ada, "presence"),
                {"type": "presence", "name": "Grace", "change": "left", "people": 1},
            )

    async def test_what_cannot_be_understood_is_answered_and_the_socket_stays(self) -> None:
        key = uuid.uuid4().hex
        refused: list[tuple[Any, str]] = [
            ({"action": "fly"}, 'Expected an object whose "action" is "join" or "say".'),
            ({}, "Expected an object"),
            (["say"], "Expected an object"),
            (None, "Expected an object"),
            ({"action": "join", "name": "Ada"}, "Join once, then say something."),
            ({"action": "say", "key": key}, "text: This field is required."),
            ({"action": "say", "text": "  ", "key": key}, "text: This field is required."),
            ({"action": "say", "text": "a" * 1001, "key": key}, "text: Ensure this value has at most 1000"),
            ({"action": "say", "text": ["Hello"], "key": key}, "text: Expected a text."),
            ({"action": "say", "text": "\ud800", "key": key}, "text: Expected a text of whole characters"),
            ({"action": "say", "text": "a\0b", "key": key}, "text: Null characters are not allowed."),
            ({"action": "say", "text": "Hello", "key": "mine"}, "key: Enter a valid UUID."),
            ({"action": "say", "text": "Hello", "key": [1]}, "key: Enter a valid UUID."),
        ]
        async with window() as ada:
            await join(ada, "Ada")
            for content, answer in refused:
                await self.assert_refused(ada, content, answer)
            await ada.send_to(text_data="{not JSON")
            self.assertIn("not JSON", (await receive(ada, "error"))["message"])
            await ada.send_to(bytes_data=b"picture")
            self.assertIn("text", (await receive(ada, "error"))["message"])

            self.assertEqual((await say(ada, "Still here"))["text"], "Still here")

    async def test_nothing_can_be_said_before_joining(self) -> None:
        refused: list[tuple[Any, str]] = [
            ({"action": "say", "text": "Hello", "key": uuid.uuid4().hex}, "Join once, then say something."),
            ({"action": "join", "name": ""}, "name: This field is required."),
            ({"action": "join", "name": "A" * 25}, "name: Ensure this value has at most 24 characters"),
            ({"action": "join", "name": "Ada", "after": "x"}, "after: Enter a whole number."),
        ]
        async with window() as ada:
            for content, answer in refused:
                await self.assert_refused(ada, content, answer)
            self.assertEqual((await join(ada, "Ada"))["people"], 1)

    async def assert_refused(self, socket: WebsocketCommunicator, content: Any, answer: str) -> None:
        await socket.send_json_to(content)
        error = await receive(socket, "error")
        self.assertIn(answer, error["message"])
        key = content.get("key") if isinstance(content, dict) else None
        self.assertEqual(error["key"], key if isinstance(key, str) else None)

    async def test_a_room_that_does_not_exist_is_refused(self) -> None:
        with self.assertRaisesMessage(WebsocketDenied, "There is no such room."):
            async with window("attic"):
                pass

    async def test_a_page_of_another_site_is_refused(self) -> None:
        with self.assertLogs("sealane"), self.assertRaisesMessage(WebsocketDenied, "403"):
            async with window(origin="http://elsewhere.example"):
                pass


class NoticeTests(TestCase):
    async def test_the_view_reaches_every_room(self) -> None:
        async with window() as ada, window("tea-kitchen") as alan:
            await join(ada, "Ada")
            await join(alan, "Alan")

            response = await self.async_client.post("/notices/", {"text": "Tea is ready"})

            self.assertRedirects(response, "/notices/", fetch_redirect_response=False)
            for socket in (ada, alan):
                self.assertEqual((await receive(socket, "notice"))["text"], "Tea is ready")

    def test_the_page_says_that_it_was_sent(self) -> None:
        response = self.client.post("/notices/", {"text": "Tea is ready"}, follow=True)
        self.assertContains(response, "Everybody who is in a room can read it now.")

    def test_a_script_gets_json(self) -> None:
        response = self.client.post("/notices/", {"text": "Hi"}, headers={"accept": "application/json"})
        self.assertEqual(response.json(), {"sent": True})
        response = self.client.post("/notices/", {"text": ""}, headers={"accept": "application/json"})
        self.assertEqual(response.status_code, 400)
        self.assertEqual(response.json(), {"errors": {"text": ["This field is required."]}})

    def test_an_empty_notice_is_refused(self) -> None:
        response = self.client.post("/notices/", {"text": " "})
        self.assertContains(response, "This field is required.", status_code=400)

    def test_a_form_without_the_token_is_refused(self) -> None:
        response = Client(enforce_csrf_checks=True).post("/notices/", {"text": "Tea is ready"})
        self.assertEqual(response.status_code, 403)


class PageTests(TestCase):
    def test_a_room_is_opened_once(self) -> None:
        for name in ("Engine room", "engine ROOM"):
            response = self.client.post("/", {"name": name})
            self.assertRedirects(response, "/rooms/engine-room/")
        self.assertContains(self.client.get("/"), "Engine room", count=1)

    def test_a_room_needs_a_name_for_its_address(self) -> None:
        response = self.client.post("/", {"name": "?!"})
        self.assertContains(response, "Use at least one letter", status_code=400)

    def test_a_room_that_does_not_exist_is_not_found(self) -> None:
        self.assertEqual(self.client.get("/rooms/attic/").status_code, 404)


class TickerTests(TestCase):
    async def test_it_ticks(self) -> None:
        async with HttpCommunicator(application, "GET", "/ticker/") as page:
            start = await page.get_start()
            self.assertIn((b"content-type", b"text/event-stream; charset=utf-8"), start["headers"])
            opening = await page.receive_chunk()
            self.assertTrue(opening.startswith(b":"))  # a comment
            tick = (await page.receive_chunk()).decode()
            self.assertRegex(tick, r'^event: tick\ndata: \{"at": ".+", "people": 0, "rooms": 0\}\n\n$')


class PresenceTests(TestCase):
    async def test_a_name_counts_once_until_its_last_window_closes(self) -> None:
        room = await Room.objects.aget(slug="lobby")
        ada, is_new = await presence.enter(room, "Ada")
        self.assertTrue(is_new)
        again, is_new = await presence.enter(room, "Ada")
        self.assertFalse(is_new)
        grace, is_new = await presence.enter(room, "Grace")
        self.assertTrue(is_new)
        self.assertEqual((await presence.people(room), await presence.total()), (2, (2, 1)))
        self.assertFalse(await presence.leave(ada))
        self.assertTrue(await presence.leave(again))
        self.assertTrue(await presence.leave(grace))
        self.assertFalse(await presence.leave(grace))
        self.assertEqual((await presence.people(room), await presence.total()), (0, (0, 0)))

    async def test_the_windows_of_a_process_that_was_killed_are_swept(self) -> None:
        room = await Room.objects.aget(slug="lobby")
        killed = [(await presence.enter(room, name))[0] for name in ("Ada", "Grace", "Grace")]
        await stop_refreshing(*killed)
        ada, _ = await presence.enter(room, "Ada")
        self.assertEqual(await presence.people(room), 1)

        self.assertEqual([visit.name for visit in await presence.sweep()], ["Grace"])

        self.assertEqual(await presence.sweep(), [])
        self.assertEqual(await Visit.objects.aget(), ada)

    async def test_the_room_is_told_whose_process_was_killed(self) -> None:
        grace, _ = await presence.enter(await Room.objects.aget(slug="lobby"), "Grace")
        with mock.patch.object(presence, "REFRESH", 0.01):
            async with window() as ada:
                self.assertEqual((await join(ada, "Ada"))["people"], 2)
                await stop_refreshing(grace)
                self.assertEqual(
                    await receive(ada, "presence"),
                    {"type": "presence", "name": "Grace", "change": "left", "people": 1},
                )


class RemovedRoomTests(TransactionTestCase):
    """A transaction around the test would put off what the database has to say."""

    async def test_its_windows_are_closed(self) -> None:
        await Room.objects.aget_or_create(slug="lobby", defaults={"name": "Lobby"})
        with mock.patch.object(presence, "REFRESH", 0.01):
            async with window() as ada:
                await join(ada, "Ada")
                await Room.objects.filter(slug="lobby").adelete()
                closing = await ada.receive_output()
                self.assertEqual((closing["type"], closing["code"]), ("websocket.close", 4404))


async def stop_refreshing(*visits: Visit) -> None:
    """Let time pass for these visits."""
    long_ago = timezone.now() - timedelta(seconds=presence.LEASE + 1)
    await Visit.objects.filter(pk__in=[visit.pk for visit in visits]).aupdate(seen=long_ago)
