from unittest import mock
from urllib.request import urlopen

import channels.layers
from channels.testing import (
    ApplicationCommunicator,
    ChannelsLiveServerTestCase,
    HttpCommunicator,
    WebsocketCommunicator,
)
from django.test import TestCase, TransactionTestCase
from django.utils.module_loading import import_string

from harbour.asgi import application
from quay import consumers

ORIGIN = [(b"origin", b"http://testserver")]


class WebSockets(TransactionTestCase):
    async def test_two_pages_hear_each_other(self):
        pages = [WebsocketCommunicator(application, "/ws/ships/Ark/", ORIGIN) for _ in range(2)]
        for page in pages:
            connected, _ = await page.connect()
            self.assertTrue(connected)
            self.assertEqual(await page.receive_json_from(), {"accounts": 0, "user": "AnonymousUser"})
        await pages[0].send_json_to({"words": "ahoy"})
        for page in pages:
            self.assertEqual(await page.receive_json_from(), {"words": ["ahoy", 1]})
        await channels.layers.get_channel_layer().group_send("ship_Ark", {"type": "ship.said", "words": [2]})
        self.assertEqual(await pages[1].receive_json_from(), {"words": [2]})
        for page in pages:
            await page.disconnect()

    async def test_a_view_calls_a_ship(self):
        page = WebsocketCommunicator(application, "/ws/ships/Ark/", ORIGIN)
        await page.connect()
        await page.receive_json_from()
        response = await self.async_client.get("/call/Ark/")
        self.assertEqual(response.content, b"called")
        self.assertEqual(await page.receive_json_from(), {"words": ["come in", 2]})
        await page.disconnect()

    async def test_other_sites_are_refused(self):
        page = WebsocketCommunicator(application, "/ws/log/", [(b"origin", b"http://elsewhere.example")])
        connected, _ = await page.connect()
        self.assertFalse(connected)

    async def test_a_consumer_refuses(self):
        connected, _ = await WebsocketCommunicator(consumers.Lock.as_asgi(), "/").connect()
        self.assertFalse(connected)

    async def test_a_worker_tells_the_log(self):
        page = WebsocketCommunicator(application, "/ws/log/", ORIGIN)
        await page.connect()
        worker = ApplicationCommunicator(application, {"type": "channel", "channel": "cranes"})
        await worker.send_input({"type": "crane.lift", "load": "tea"})
        self.assertEqual(await page.receive_from(), "LIFTED TEA")
        await page.disconnect()


class Requests(TestCase):
    async def test_the_tide(self):
        response = await HttpCommunicator(application, "GET", "/tide/").get_response()
        self.assertEqual(response["status"], 200)
        self.assertEqual(response["body"], b'{"layer": "InMemoryChannelLayer", "consumer": true}')

    def test_a_view_without_a_layer(self):
        with mock.patch("channels.layers.get_channel_layer") as layer:
            layer.return_value.group_send = mock.AsyncMock()
            self.assertEqual(self.client.get("/call/Ark/").content, b"called")
        layer.return_value.group_send.assert_awaited_once_with(
            "ship_Ark", {"type": "ship.said", "words": ["come in", 2]}
        )

    def test_names_in_texts(self):
        self.assertIs(import_string("channels.generic.websocket.WebsocketConsumer"), consumers.Log.__mro__[1])
        self.assertIsInstance(channels.layers.get_channel_layer(), channels.layers.InMemoryChannelLayer)


class Live(ChannelsLiveServerTestCase):
    def test_it_answers(self):
        with urlopen(f"{self.live_server_url}/tide/") as response:
            self.assertEqual(response.status, 200)
        self.assertTrue(self.live_server_ws_url.startswith("ws://localhost:"))
