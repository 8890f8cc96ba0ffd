"""The communicators inside Django's own test cases, with a database in a file, whose connections really close."""

import threading
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection, transaction
from django.test import TestCase, TransactionTestCase

from sealane.consumers import AsyncWebsocketConsumer
from sealane.db import database_sync_to_async
from sealane.testing import HttpCommunicator, WebsocketCommunicator
from sealane.types import Receive, Scope, Send


class Counter(AsyncWebsocketConsumer):
    """Create the user that a frame names, by the asynchronous ORM, and tell how many there are, by a function."""

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        await User.objects.acreate(username=text_data or "")
        await self.send(text_data=await self.count())

    @database_sync_to_async
    def count(self) -> str:
        return f"{User.objects.count()} in {threading.current_thread().name}"


async def stray_transaction(scope: Scope, receive: Receive, send: Send) -> None:
    """Write a user in a transaction that fails."""

    @database_sync_to_async
    def write() -> None:
        with transaction.atomic():
            User.objects.create(username="never")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await write()
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body"})


def in_a_transaction() -> bool:
    return connection.in_atomic_block


async def exchange(ws: WebsocketCommunicator, *frames: str) -> list[Any]:
    answers = []
    for frame in frames:
        await ws.send_to(frame)
        answers.append(await ws.receive_from())
    return answers


class InATransaction(TestCase):
    """What the application writes is in the transaction of the test, and gone after it: no test sees the other's."""

    async def check(self) -> None:
        await User.objects.acreate(username="of the test")
        async with WebsocketCommunicator(Counter.as_asgi(), "/") as ws:
            answers = await exchange(ws, "a", "b")
        self.assertEqual(answers, ["2 in MainThread", "3 in MainThread"])
        self.assertTrue(await database_sync_to_async(in_a_transaction)())

    async def test_the_application_sees_the_transaction(self) -> None:
        await self.check()

    async def test_and_leaves_nothing(self) -> None:
        await self.check()

    async def test_the_application_can_roll_back(self) -> None:
        await User.objects.acreate(username="of the test")
        async with HttpCommunicator(stray_transaction, "GET", "/") as communicator:
            await communicator.get_response()
        self.assertEqual(await User.objects.acount(), 1)


class WithoutATransaction(TransactionTestCase):
    """The database is emptied between the tests, and connections close by Django's rules in between."""

    async def check(self) -> None:
        await User.objects.acreate(username="of the test")
        async with WebsocketCommunicator(Counter.as_asgi(), "/") as ws:
            answers = await exchange(ws, "a", "b")
        self.assertEqual(answers, ["2 in MainThread", "3 in MainThread"])
        self.assertEqual(await User.objects.acount(), 3)

    async def test_the_application_sees_the_database(self) -> None:
        await self.check()

    async def test_and_it_is_empty_again(self) -> None:
        await self.check()


@pytest.mark.django_db(transaction=True)
async def test_with_pytest_asyncio() -> None:
    await User.objects.acreate(username="of the test")
    async with WebsocketCommunicator(Counter.as_asgi(), "/") as ws:
        answers = await exchange(ws, "a", "b")
    assert [answer.partition(" ")[0] for answer in answers] == ["2", "3"]
