"""Broadcasting: what the page shows reaches a consumer from every place of a Django project that it names."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.admin import AdminSite
from django.contrib.auth.models import User
from django.core.exceptions import SynchronousOnlyOperation
from django.core.management import call_command
from django.db import transaction
from django.db.models.signals import post_save
from django.test import AsyncClient, Client, RequestFactory, override_settings
from django.urls import path

from sealane.db import database_sync_to_async
from sealane.layers import InMemoryChannelLayer
from tests.django.articles.models import Article
from tests.docs.reading import Reading
from tests.docs.snippets import DOCS
from tests.patient import PatientCommunicator

PAGE = DOCS / "how-to" / "broadcast.md"


@pytest.fixture(scope="session")
def _names(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    # Once: Celery never forgets a task, and warns of another of its name.
    reading = Reading(tmp_path_factory.mktemp("broadcast"))
    try:
        return asyncio.run(reading.read(PAGE))
    finally:
        reading.close()


@pytest.fixture
def names(_names: dict[str, Any], layer: InMemoryChannelLayer) -> dict[str, Any]:
    """What the code of the page has defined."""
    return _names


def open_page(names: dict[str, Any], pk: int, consumer: Any = None) -> PatientCommunicator:
    """The socket of somebody who has the page of an article open."""
    communicator = PatientCommunicator((consumer or names["ArticleConsumer"]).as_asgi(), "/")
    communicator.scope["url_route"] = {"args": (), "kwargs": {"pk": pk}}
    return communicator


class Urls:
    """URLs, in the form of a module."""

    def __init__(self, *patterns: Any) -> None:
        self.urlpatterns = [*patterns]


@pytest.mark.django_db(transaction=True)
async def test_from_the_views(names: dict[str, Any]) -> None:
    urls = Urls(
        path("rename/<int:pk>/", names["rename"]),
        path("rename-by-the-layer/<int:pk>/", names["rename_by_the_layer"]),
        path("arename/<int:pk>/", names["arename"]),
        path("article/<int:pk>/", names["ArticleView"].as_view()),
    )
    client, async_client = Client(), AsyncClient()
    async with open_page(names, 7) as page, open_page(names, 8) as other:
        with override_settings(ROOT_URLCONF=urls):
            for name in ("rename", "rename-by-the-layer", "arename"):
                # Under WSGI, where Django runs an asynchronous view in a loop of its own, and under ASGI.
                assert (await sync_to_async(client.post)(f"/{name}/7/", {"title": name})).status_code == 204
                assert await page.receive_json_from() == {"title": name}
                assert (await async_client.post(f"/{name}/7/", {"title": f"async {name}"})).status_code == 204
                assert await page.receive_json_from() == {"title": f"async {name}"}
            put = await sync_to_async(client.put)("/article/7/", '{"title": "REST"}', "application/json")
            assert put.status_code == 204
            assert await page.receive_json_from() == {"title": "REST"}
        assert await other.receive_nothing()


async def test_the_wrong_one_in_an_event_loop_says_so(names: dict[str, Any]) -> None:
    post = RequestFactory().post("/", {"title": "New"})
    with pytest.raises(SynchronousOnlyOperation, match=r"'await sealane\.abroadcast\(\.\.\.\)'"):
        names["rename"](post, 7)
    with pytest.raises(SynchronousOnlyOperation, match=r"'await channel_layer\.group_send\(\.\.\.\)'"):
        names["rename_by_the_layer"](post, 7)


@pytest.mark.django_db(transaction=True)
async def test_after_the_transaction(names: dict[str, Any]) -> None:
    @database_sync_to_async
    def rename_in_vain() -> None:
        with transaction.atomic():
            names["rename_carefully"](7, "Rolled back")
            transaction.set_rollback(True)

    async with open_page(names, 7) as page:
        await rename_in_vain()
        await database_sync_to_async(names["rename_carefully"])(7, "Committed")
        assert await page.receive_json_from() == {"title": "Committed"}


@pytest.fixture
def ready(names: dict[str, Any]) -> Iterator[None]:
    """The application of the page is set up, as Django does it."""
    module = names["articles.apps"]
    module.ArticlesConfig("articles", module).ready()
    yield
    assert post_save.disconnect(module.article_saved, sender=Article)


@pytest.mark.django_db(transaction=True)
async def test_from_a_signal_handler(names: dict[str, Any], ready: None) -> None:
    @database_sync_to_async
    def save_in_a_transaction() -> None:
        with transaction.atomic():
            Article.objects.filter(pk=7).get().save()
            Article.objects.filter(pk=7).update(title="Unsaid")
        with transaction.atomic():
            article.title = "Rolled back"
            article.save()
            transaction.set_rollback(True)

    article = Article(pk=7, title="First")
    async with open_page(names, 7) as page:
        await article.asave()
        assert await page.receive_json_from() == {"title": "First"}
        await save_in_a_transaction()
        assert await page.receive_json_from() == {"title": "First"}
        assert await page.receive_nothing()


@pytest.mark.django_db(transaction=True)
async def test_from_the_admin(names: dict[str, Any]) -> None:
    @database_sync_to_async
    def rename(title: str) -> tuple[int, str]:
        client = Client()
        client.force_login(User.objects.get(username="ada"))
        response = client.post("/admin/articles/article/7/change/", {"title": title}, follow=True)
        return response.status_code, Article.objects.get(pk=7).title

    site = AdminSite()
    site.register(Article, names["ArticleAdmin"])
    await User.objects.acreate(username="ada", is_staff=True, is_superuser=True)
    await Article.objects.acreate(pk=7, title="Old")
    async with open_page(names, 7) as page:
        with override_settings(ROOT_URLCONF=Urls(path("admin/", site.urls))):
            assert await rename("") == (200, "Old")
            assert await rename("New") == (200, "New")
        assert await page.receive_json_from() == {"title": "New"}
        assert await page.receive_nothing()


async def test_from_a_management_command(names: dict[str, Any]) -> None:
    command = names["articles.management.commands.rename_article"].Command()
    async with open_page(names, 7) as page:
        await sync_to_async(call_command)(command, "7", "Commanded")
        assert await page.receive_json_from() == {"title": "Commanded"}


@pytest.mark.django_db(transaction=True)
async def test_from_a_task_that_is_called_at_once(names: dict[str, Any]) -> None:
    """As with CELERY_TASK_ALWAYS_EAGER."""
    async with open_page(names, 7) as page:
        result = await database_sync_to_async(names["articles.tasks"].rename_article.apply)((7, "Eager"))
        assert result.successful()
        assert await page.receive_json_from() == {"title": "Eager"}


async def test_from_a_thread(names: dict[str, Any]) -> None:
    async with open_page(names, 7) as page:
        thread = names["rename_in_a_thread"](7, "Threaded")
        assert await page.receive_json_from() == {"title": "Threaded"}
        await sync_to_async(thread.join)()


async def test_a_send_of_ones_own(names: dict[str, Any], layer: InMemoryChannelLayer) -> None:
    seen: list[str] = []

    class Passed(names["ArticleConsumer"]):  # type: ignore[misc,name-defined,valid-type]
        async def send(self, text_data: Any = None, bytes_data: Any = None, close: Any = False) -> None:
            seen.append(text_data)
            await super().send(text_data, bytes_data, close)

    class Counting(names["CountingConsumer"]):  # type: ignore[misc,name-defined,valid-type]
        async def article_count(self, message: Any) -> None:
            await super().send(str(self.frames))

    async with open_page(names, 7, Passed) as passed, open_page(names, 7, Counting) as counting:
        await sync_to_async(names["rename_for_many"])(7, "Encoded")
        assert await passed.receive_json_from() == await counting.receive_json_from() == {"title": "Encoded"}
        assert seen == []
        await layer.group_send("article.7", {"type": "article.count"})
        assert await counting.receive_from() == "1"


async def test_group_names(layer: InMemoryChannelLayer) -> None:
    assert layer.group_name("article", 7) == "article.7"
    assert layer.require_valid_group_name(layer.group_name("article", "ü" * 200))
