"""ProtocolTypeRouter. Its lifespan application has tests of its own."""

from typing import Any

import pytest
import uvicorn

from sealane.exceptions import UnknownScopeType
from sealane.routing import ChannelNameRouter, ProtocolTypeRouter, URLRouter, not_found
from sealane.routing.lifespan import Lifespan
from tests.routing.recording import Recorder, call


async def test_the_type_names_the_application() -> None:
    http, websocket = Recorder(), Recorder()
    router = ProtocolTypeRouter({"http": http, "websocket": websocket})
    await call(router, type="websocket", path="/")
    assert websocket.scopes == [{"type": "websocket", "path": "/"}]
    assert http.scopes == []


async def test_the_scope_is_passed_on_as_it_is() -> None:
    app: Any = Recorder()
    scope = {"type": "http"}
    await ProtocolTypeRouter({"http": app})(scope, app, app)
    assert app.scopes[0] is scope


async def test_an_unknown_type_names_those_that_are_known() -> None:
    router = ProtocolTypeRouter({"websocket": Recorder(), "http": Recorder()})
    with pytest.raises(
        UnknownScopeType,
        match=r"configured for scope type 'mqtt'\. Types known: 'http', 'lifespan', 'websocket'$",
    ) as caught:
        await call(router, type="mqtt")
    assert isinstance(caught.value, ValueError)
    assert caught.value.type == "mqtt"
    assert caught.value.known == ("http", "lifespan", "websocket")


async def test_errors_of_the_application_pass() -> None:
    error = KeyError("http")
    with pytest.raises(KeyError) as caught:
        await call(ProtocolTypeRouter({"http": Recorder(error=error)}), type="http")
    assert caught.value is error


async def test_the_mapping_is_copied() -> None:
    mapping: dict[str, Any] = {"http": Recorder()}
    router = ProtocolTypeRouter(mapping)
    assert list(mapping) == ["http"]
    mapping.clear()
    await call(router, type="http")


async def test_an_application_added_to_the_routers_own_mapping_counts() -> None:
    app = Recorder()
    router = ProtocolTypeRouter({})
    router.application_mapping["http"] = app
    await call(router, type="http")
    assert len(app.scopes) == 1


def test_lifespan_is_there_by_default() -> None:
    router = ProtocolTypeRouter({}, on_startup=[print], on_shutdown=[repr])
    lifespan = router.application_mapping["lifespan"]
    assert isinstance(lifespan, Lifespan)
    assert lifespan.on_startup == (print,)
    assert lifespan.on_shutdown == (repr,)


async def test_a_lifespan_application_of_ones_own() -> None:
    lifespan = Recorder()
    await call(ProtocolTypeRouter({"lifespan": lifespan}), type="lifespan")
    assert len(lifespan.scopes) == 1


@pytest.mark.parametrize("hooks", [{"on_startup": [print]}, {"on_shutdown": [print]}])
def test_hooks_that_would_never_run(hooks: Any) -> None:
    with pytest.raises(ValueError, match=r"do not run beside a 'lifespan' application of your own\. Leave 'lifespan'"):
        ProtocolTypeRouter({"lifespan": Recorder()}, **hooks)


def test_repr_names_the_types_and_applications() -> None:
    router = ProtocolTypeRouter(
        {
            "http": not_found,
            "websocket": URLRouter([]),
            "channel": ChannelNameRouter({}),
            "other": Plain(),
            "lifespan": Recorder("life"),
        }
    )
    assert repr(router) == (
        "ProtocolTypeRouter({'http': not_found, 'websocket': URLRouter([]), "
        "'channel': ChannelNameRouter({}), 'other': Plain, 'lifespan': <life>})"
    )


class Plain:
    """An application without a repr of its own."""

    async def __call__(self, *args: Any) -> None: ...


def test_servers_recognise_it_as_asgi_3() -> None:
    for router in (ProtocolTypeRouter({}), ChannelNameRouter({}), Lifespan()):
        config = uvicorn.Config(router, log_config=None)
        config.load()
        assert config.interface == "asgi3"
