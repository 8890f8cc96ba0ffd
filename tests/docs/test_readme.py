"""The example of the README, and what the README says of the commands."""

from unittest import mock

from asgiref.sync import sync_to_async
from django.test import RequestFactory

from sealane.layers import InMemoryChannelLayer
from sealane.testing import HttpCommunicator, WebsocketCommunicator
from tests.docs.reading import Reading
from tests.docs.snippets import ROOT, blocks_of

README = ROOT / "README.md"


async def test_a_view_reaches_every_open_page(reading: Reading, layer: InMemoryChannelLayer) -> None:
    with mock.patch.dict("os.environ"):
        names = await reading.read(README)
    application = names["mysite.asgi"].application
    pages = [WebsocketCommunicator(application, "/ws/news/", headers={"origin": "http://testserver"}) for _ in range(2)]
    async with pages[0] as one, pages[1] as two:
        post = RequestFactory().post("/", {"headline": "Tea is ready"})
        assert (await sync_to_async(names["news.views"].publish)(post)).status_code == 204
        assert await one.receive_json_from() == {"headline": "Tea is ready"}
        assert await two.receive_json_from() == {"headline": "Tea is ready"}
    async with HttpCommunicator(application, "GET", "/") as page:
        assert (await page.get_response())["body"] == b"Django: /"


def test_it_begins_with_the_two_commands() -> None:
    first = blocks_of(README)[0]
    assert first.text == "$ make demo\n$ make test\n"
    assert len("".join(block.text for block in blocks_of(README) if block.language == "python").splitlines()) < 50


def test_the_address_is_the_one_of_make_demo() -> None:
    assert "http://127.0.0.1:8000/" in README.read_text()
    assert "PORT ?= 8000" in (ROOT / "Makefile").read_text()
