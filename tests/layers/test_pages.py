"""The code in the pages about layers runs, and the layer that one of them writes keeps the contract."""

import re
from pathlib import Path
from typing import Any

import pytest
from django.test import override_settings

from sealane.layers import InMemoryChannelLayer, channel_layers
from sealane.layers.serializers import registry

DOCS = Path(__file__).parents[2] / "docs"


def run(page: str) -> dict[str, Any]:
    """Run a page's code from its first line to its last, and return what it defined."""
    namespace: dict[str, Any] = {"__name__": f"page_{Path(page).stem}"}
    text = (DOCS / page).read_text()
    for block in re.finditer(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
        # The lines before it keep their numbers, so that a traceback shows the place in the page.
        code = "\n" * text.count("\n", 0, block.start(1)) + block.group(1)
        exec(compile(code, page, "exec"), namespace)
    return namespace


how_to = run("how-to/write-a-channel-layer.md")
TestTenantChannelLayer: Any = how_to["TestTenantChannelLayer"]


async def test_the_layer_of_the_how_to_page_keeps_tenants_apart() -> None:
    acme, globex = how_to["TenantChannelLayer"]("acme"), how_to["TenantChannelLayer"]("globex")
    globex.inner = acme.inner
    await acme.group_add("staff", "a")
    await globex.group_add("staff", "b")
    await acme.group_send("staff", {"type": "x"})
    assert await acme.receive("a") == {"type": "x"}
    assert acme.stats()["addressed"] == 1


def test_the_reference_page_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_factories", dict(registry._factories))
    with override_settings(CHANNEL_LAYERS={"default": {"BACKEND": "sealane.layers.InMemoryChannelLayer"}}):
        settings = run("reference/layers.md")["CHANNEL_LAYERS"]
    with override_settings(CHANNEL_LAYERS=settings):
        layer = channel_layers["default"]
        assert (layer.get_capacity("thumbnails"), layer.get_capacity("other")) == (1000, 200)
        assert channel_layers.make_test_backend("default").expiry == 5


def test_the_reference_page_names_every_counter_and_option() -> None:
    text = (DOCS / "reference/layers.md").read_text()
    layer = InMemoryChannelLayer()
    for name in layer.stats():
        assert f"`{name}`" in text, name
    for option in ("expiry", "capacity", "channel_capacity", "overflow", "serializer_format", "max_message_size"):
        assert f"| `{option}` |" in text, option
