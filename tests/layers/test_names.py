"""Names of channels and groups."""

import ast
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from django.db import models
from hypothesis import given
from hypothesis import strategies as st

from sealane.exceptions import InvalidName
from sealane.layers import InMemoryChannelLayer, names
from sealane.layers.names import (
    group_name,
    non_local_name,
    require_valid_channel_name,
    require_valid_group_name,
)


@pytest.mark.parametrize("name", ["a", "A.b-c_9", "x" * 99, "specific.inmemory!abc", "reply!", "a!-_."])
def test_valid_channel_names(name: str) -> None:
    assert require_valid_channel_name(name) is True


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        (None, "must be a str, not NoneType, with length < 100"),
        (b"bytes", "must be a str, not bytes"),
        ("", "it is empty"),
        ("x" * 100, r"it has 100 characters; it must have length < 100"),
        ("a b", r"only ASCII letters, .* at most one '!' \(see ' ' at position 1\)"),
        ("grün", r"\(see 'ü' at position 2\)"),
        ("line\n", r"\(see '\\n' at position 4\)"),
        ("a!b!", "at most one '!'"),
        ("!a", "at most one '!'"),
        ("a!ü", r"\(see '!' at position 1\)"),
        ("٣", "at position 0"),
    ],
)
def test_invalid_channel_names_say_what_is_wrong(name: object, problem: str) -> None:
    with pytest.raises(InvalidName, match=problem) as caught:
        require_valid_channel_name(name)
    assert caught.value.kind == "Channel"
    assert caught.value.name is name
    assert isinstance(caught.value, TypeError)


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        (7, "Group name 7 is not valid: it must be a str, not int"),
        ("a!b", r"only ASCII letters, digits, hyphens, underscores and periods \(see '!' at position 1\)"),
        ("room 1", r"group_name\('room', key\) makes a valid one of any key"),
        ("x" * 100, "it has 100 characters"),
    ],
)
def test_invalid_group_names_say_what_is_wrong(name: object, problem: str) -> None:
    with pytest.raises(InvalidName, match=problem):
        require_valid_group_name(name)


def test_a_layer_that_reads_one_queue_per_process_wants_the_name_up_to_the_mark() -> None:
    layer = InMemoryChannelLayer()
    assert layer.require_valid_channel_name("specific.host!", receive=True)
    assert layer.require_valid_channel_name("plain", receive=True)
    with pytest.raises(InvalidName, match="must end at the '!'"):
        layer.require_valid_channel_name("specific.host!abc", receive=True)


def test_a_layer_can_take_longer_names() -> None:
    class Roomy(InMemoryChannelLayer):
        MAX_NAME_LENGTH = 200

    layer = Roomy()
    assert layer.require_valid_channel_name("x" * 199)
    assert layer.require_valid_group_name("x" * 199)
    assert layer.group_name("x" * 198) == "x" * 198
    with pytest.raises(InvalidName, match="length < 200"):
        layer.require_valid_group_name("x" * 200)


@pytest.mark.parametrize(("name", "expected"), [("plain", "plain"), ("a.b!c", "a.b!"), ("a!", "a!")])
def test_non_local_name(name: str, expected: str) -> None:
    assert non_local_name(name) == expected
    assert InMemoryChannelLayer().non_local_name(name) == expected


class Colour(models.TextChoices):
    RED = "red"


class Size(models.IntegerChoices):
    LARGE = 3


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        (("room",), "room"),
        (("room", 42), "room.42"),
        (("room", "42"), "room.42"),
        (("room", -1, "a_b-c"), "room.-1.a_b-c"),
        (("room", UUID(int=1)), "room.00000000-0000-0000-0000-000000000001"),
        (("room", Colour.RED, Size.LARGE), "room.red.3"),
    ],
)
def test_a_valid_group_name_is_readable(parts: tuple[str, ...], expected: str) -> None:
    assert group_name(*parts) == expected


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        # Names must not change from release to release: processes of two releases share groups during a deploy.
        (("room", "grün"), "room..d36d49a460acb70ffad06fda3e881232"),
        (("room", "x" * 100), "room.."),
        (("a.b", "c"), "a_b.."),
        (("room", ""), "room.."),
        (("\ud800",), "_.."),
        (("x" * 200,), "x" * 60 + ".."),
        (("x" * 49, "x" * 50), "x" * 49 + ".."),
    ],
)
def test_other_group_names_are_hashed(parts: tuple[str, ...], expected: str) -> None:
    name = group_name(*parts)
    assert name.startswith(expected)
    assert len(name.partition("..")[2]) == 32
    assert require_valid_group_name(name)


@pytest.mark.parametrize("part", [None, True, 1.5, b"a", object(), ["a"]])
def test_a_part_of_another_type_is_refused(part: object) -> None:
    with pytest.raises(InvalidName, match=rf"must be a str, an int or a UUID, not {type(part).__name__}; pass str"):
        group_name("room", part)  # type: ignore[arg-type]


def test_a_group_name_needs_a_part() -> None:
    with pytest.raises(InvalidName, match="at least one part"):
        group_name()


PARTS = st.lists(st.one_of(st.text(), st.text("ab._", max_size=3), st.integers().map(str)), min_size=1, max_size=4)


@pytest.mark.untraced
@given(PARTS, PARTS)
def test_different_parts_make_different_valid_names(one: list[str], other: list[str]) -> None:
    assert require_valid_group_name(group_name(*one))
    assert (group_name(*one) == group_name(*other)) == (one == other)


@given(st.text())
def test_a_name_is_valid_or_refused_by_name(name: str) -> None:
    allowed = set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.")
    if 0 < len(name) < 100 and set(name) <= allowed:
        assert require_valid_group_name(name)
        assert require_valid_channel_name(f"{name[:40]}!{name[:40]}")
    else:
        with pytest.raises(InvalidName):
            require_valid_group_name(name)


def test_keys_of_models_make_names() -> None:
    key = uuid4()
    assert InMemoryChannelLayer().group_name("order", key) == f"order.{key}"


def test_no_check_is_an_assertion() -> None:
    """``python -O`` leaves assertions out, and with them every check that is one."""
    for path in Path(names.__file__).parent.glob("*.py"):
        asserted = [node.lineno for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Assert)]
        assert asserted == [], path
