"""The page about background work: Celery and Django Tasks tell a group, and its page hears of it."""

import asyncio
import importlib
from typing import Any

import django
import pytest
from django.test import override_settings

from sealane.layers import InMemoryChannelLayer
from sealane.testing import WebsocketCommunicator
from tests.docs.reading import Reading
from tests.docs.snippets import DOCS, blocks_of

PAGE = DOCS / "explanation" / "background-work.md"

#: Django's own interface for tasks came with this version.
needs_django_tasks = pytest.mark.skipif(django.VERSION < (6, 0), reason="django.tasks came with Django 6.0")


@pytest.fixture
def modules(reading: Reading) -> dict[str, Any]:
    """The modules of the page, imported when they are asked for."""
    for block in blocks_of(PAGE):
        assert block.file is not None
        block.write(reading.directory)
    importlib.invalidate_caches()

    class Modules(dict[str, Any]):
        def __missing__(self, name: str) -> Any:
            self[name] = importlib.import_module(f"archive.{name}")
            return self[name]

    return Modules()


async def hears(consumer: Any, call: Any) -> list[int]:
    """Open the page's socket, call something in a thread as a view would, and return what the page is told."""
    page = WebsocketCommunicator(consumer.as_asgi(), "/")
    page.scope["user"] = type(
        "User", (), {"pk": 7, "is_authenticated": True, "is_active": True, "is_anonymous": False}
    )()
    async with page:
        await asyncio.to_thread(call)
        return [(await page.receive_json_from())["percent"] for _ in range(2)]


async def test_celery(modules: dict[str, Any], layer: InMemoryChannelLayer) -> None:
    task = modules["tasks"].export
    # In this process: tests/django/test_celery.py has real workers that tell a group.
    percents = await hears(modules["consumers"].ExportConsumer, lambda: task.apply(args=(7, 2), throw=True))
    assert percents == [50, 100]


@needs_django_tasks
async def test_django_tasks(modules: dict[str, Any], layer: InMemoryChannelLayer) -> None:
    with override_settings(TASKS={"default": {"BACKEND": "django.tasks.backends.immediate.ImmediateBackend"}}):
        task = modules["django_tasks"].export
        percents = await hears(modules["consumers"].ExportConsumer, lambda: task.enqueue(7, 2))
    assert percents == [50, 100]
