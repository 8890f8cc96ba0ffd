"""ChannelNameRouter."""

from typing import Any

import pytest

from sealane.exceptions import UnknownChannel
from sealane.routing import ChannelNameRouter
from tests.routing.recording import Recorder, call


async def test_the_channel_names_the_application() -> None:
    thumbnails, mails = Recorder(), Recorder()
    router = ChannelNameRouter({"thumbnails": thumbnails, "mails": mails})
    await call(router, type="channel", channel="thumbnails")
    assert thumbnails.scopes == [{"type": "channel", "channel": "thumbnails"}]
    assert mails.scopes == []


async def test_the_scope_is_passed_on_as_it_is() -> None:
    app: Any = Recorder()
    scope = {"type": "channel", "channel": "thumbnails"}
    await ChannelNameRouter({"thumbnails": app})(scope, app, app)
    assert app.scopes[0] is scope


async def test_an_unknown_channel_names_those_that_are_known() -> None:
    router = ChannelNameRouter({"thumbnails": Recorder(), "mails": Recorder()})
    with pytest.raises(
        UnknownChannel,
        match=r"No application configured for channel name 'sms'\. Channels known: 'mails', 'thumbnails'$",
    ) as caught:
        await call(router, type="channel", channel="sms")
    assert isinstance(caught.value, ValueError)
    assert caught.value.channel == "sms"
    assert caught.value.known == ("mails", "thumbnails")


async def test_a_scope_without_a_channel() -> None:
    with pytest.raises(
        ValueError,
        match=r"got a scope of type 'websocket' without a 'channel' key\. Use it for the type 'channel' only",
    ):
        await call(ChannelNameRouter({}), type="websocket", path="/")


async def test_the_mapping_is_copied() -> None:
    mapping = {"thumbnails": Recorder()}
    router = ChannelNameRouter(mapping)
    mapping.clear()
    await call(router, type="channel", channel="thumbnails")
    assert list(router.application_mapping) == ["thumbnails"]


async def test_errors_of_the_application_pass() -> None:
    error = KeyError("thumbnails")
    with pytest.raises(KeyError) as caught:
        await call(ChannelNameRouter({"a": Recorder(error=error)}), type="channel", channel="a")
    assert caught.value is error


def test_repr_names_the_channels() -> None:
    router = ChannelNameRouter({"thumbnails": Recorder("resize")})
    assert repr(router) == "ChannelNameRouter({'thumbnails': <resize>})"
