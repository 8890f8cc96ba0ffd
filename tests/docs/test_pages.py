"""What holds for every page: its code runs, its commands exist, its links lead somewhere."""

import re
import shlex
import tomllib
from functools import cache
from pathlib import Path

import pytest
from django.core.management import get_commands, load_command_class
from django.test import override_settings

from sealane.checks import check_channel_layers
from tests.docs.reading import Reading
from tests.docs.snippets import DOCS, ROOT, Block, Command, blocks_of, commands_of, pages

PAGES = pages()

#: Pages whose code is not run here: by which test, and in which way.
RUN_ELSEWHERE = {
    "docs/explanation/background-work.md": "tests/docs/test_background_work.py",
    "docs/how-to/broadcast.md": "tests/docs/test_broadcast.py",
    "docs/how-to/deploy.md": "tests/docs/test_deploy.py",
    "docs/how-to/migrate-with-the-codemod.md": "tests/docs/test_migrate.py",
    "docs/how-to/use-third-party-packages.md": "tests/docs/test_third_party.py",
    "docs/how-to/rolling-restarts.md": "tests/deploys/site.py",
    # It changes what imports mean in the whole process.
    "docs/how-to/move-from-channels.md": "tests/compat/test_django.py",
    "docs/how-to/test-consumers.md": "tests/docs/test_how_to.py",
    "docs/how-to/write-a-channel-layer.md": "tests/layers/test_pages.py",
    "docs/reference/layers.md": "tests/layers/test_pages.py",
    **{
        f"docs/how-to/{page}.md": "tests/docs/test_redis.py"
        for page in ("choose-a-layer", "run-with-redis", "sentinel-and-cluster")
    },
    **{f"docs/tutorial/{page.name}": "tests/docs/conftest.py" for page in (DOCS / "tutorial").glob("[0-9]-*.md")},
}

#: How many blocks may stand on all pages that cannot be run.
NOT_RUN = 1

LINK = re.compile(r"(?<!!)\[[^\]]*\]\((?P<target>[^)\s]+)\)")
HEADING = re.compile(r"#{1,6} (?P<text>.+)")


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def python_blocks(page: Path) -> list[Block]:
    return [block for block in blocks_of(page) if block.language == "python"]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    "page", [page for page in PAGES if python_blocks(page) and name(page) not in RUN_ELSEWHERE], ids=name
)
async def test_the_python_of_a_page_runs(page: Path, reading: Reading, layer: object) -> None:
    names = await reading.read(page)
    # Django's own databases cannot be exchanged: those of a page are tried in tests/django/test_database.py.
    settings = {key: value for key, value in names.items() if key.isupper() and key != "DATABASES"}
    with override_settings(**settings):
        assert check_channel_layers() == []


@pytest.mark.parametrize(("page", "test"), RUN_ELSEWHERE.items())
def test_what_is_run_elsewhere_is_there(page: str, test: str) -> None:
    assert python_blocks(ROOT / page)
    # The steps of the tutorial are found by their place.
    assert Path(page).name in (ROOT / test).read_text() or page.startswith("docs/tutorial/")


def test_every_block_is_run_or_marked() -> None:
    marked = [block.where for page in PAGES for block in blocks_of(page) if block.not_run]
    assert len(marked) <= NOT_RUN, marked
    # A block in a language that nobody runs is for looking at, or is a page's own file.
    shown = {block.language for page in PAGES for block in blocks_of(page) if block.file is None}
    assert shown <= {"python", "console", "text", "js"}


# Commands


def commands() -> list[Command]:
    blocks = [block for page in PAGES for block in blocks_of(page) if block.language == "console"]
    return [command for block in blocks if not block.not_run for command in commands_of(block)]


@cache
def extras() -> set[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return set(project["optional-dependencies"])


@cache
def is_released() -> bool:
    return re.search(r"^## [\d.]+(?! \(unreleased\))$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE) is not None


@cache
def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE))


@pytest.mark.parametrize("command", commands(), ids=lambda command: command.where)
def test_a_command_exists(command: Command) -> None:
    match shlex.split(command.words):
        case ["make", target, *_]:
            assert target in make_targets()
        case ["python", "-m", "pip", "install", *arguments]:
            wanted = re.findall(r"\[(\w+)\]", " ".join(arguments))
            assert wanted
            assert extras().issuperset(wanted)
            # Nothing to be found by its name before there is a release.
            assert is_released() or any(argument.startswith((".", "/")) for argument in arguments)
        case ["python", "manage.py", subcommand, *arguments]:
            command_class = load_command_class(get_commands()[subcommand], subcommand)
            command_class.create_parser("manage.py", subcommand).parse_args(arguments)
        case ["python", "-m", "uvicorn" | "daphne" | "hypercorn" | "granian", *_]:
            pass  # run by tests/asgi_servers, which start their servers so
        case ["python", "-m", "sealane.migrate" | "pytest", *_] | ["django-admin", "startproject", _]:
            pass  # run where its page is followed
        case ["python3", "-m", "venv", _] | [".", _] | ["cd", _]:
            pass
        case _:
            pytest.fail(f"{command.where}: nobody knows {command.words!r}")


# Links


def prose(page: Path) -> list[str]:
    """The lines of a page outside its blocks."""
    lines, inside = [], False
    for line in page.read_text().splitlines():
        if line.startswith("```"):
            inside = not inside
        elif not inside:
            lines.append(line)
    return lines


@cache
def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and MyST make them."""
    found = (HEADING.fullmatch(line) for line in prose(page))
    texts = [heading["text"].lower() for heading in found if heading is not None]
    return {re.sub(r"[^\w\- ]", "", text).replace(" ", "-") for text in texts}


def links() -> list[tuple[Path, str]]:
    return [(page, link["target"]) for page in PAGES for link in LINK.finditer("\n".join(prose(page)))]


@pytest.mark.parametrize(("page", "target"), links(), ids=str)
def test_a_link_leads_somewhere(page: Path, target: str) -> None:
    if re.match(r"https?://", target):
        return
    path, _, anchor = target.partition("#")
    file = (page.parent / path).resolve() if path else page
    assert file.exists(), f"{name(page)} links to {target}"
    assert file.is_relative_to(ROOT)
    # The built documentation has no files from elsewhere.
    assert file.is_relative_to(DOCS) or not page.is_relative_to(DOCS), f"{name(page)} links out of docs/: {target}"
    if anchor:
        assert anchor in anchors(file), f"{name(page)} links to {target}; there are {sorted(anchors(file))}"


def test_every_page_is_in_a_table_of_contents() -> None:
    listed = {DOCS / "index.md"}
    for index in DOCS.rglob("index.md"):
        [toctree] = re.findall(r"```\{toctree\}\n(.*?)```", index.read_text(), re.DOTALL)
        entries = [line for line in toctree.splitlines() if line and not line.startswith(":")]
        listed |= {(index.parent / f"{entry}.md").resolve() for entry in entries}
    assert listed == {page for page in PAGES if page.is_relative_to(DOCS)}
