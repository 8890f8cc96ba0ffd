"""The machinery that runs the pages notices what is wrong on a page."""

from pathlib import Path
from typing import Any

import pytest

from tests.docs.project import Project
from tests.docs.reading import Reading, run_block
from tests.docs.snippets import ROOT, Block, Command, blocks_of, commands_of

PAGE = ROOT / "README.md"

MARKDOWN = """
# A page

```python
# chat/views.py
one = 1
```

- in a list:

  ```console
  $ python manage.py check
  no issues
  $ ls
  ```

<!-- not run: it never ends -->
```console
$ python manage.py runserver
```

```{toctree}
reference
```

````text
```python
not_this = 1
```
````
"""


def block(text: str, language: str = "python") -> Block:
    return Block(PAGE, 10, language, text, None)


def test_blocks_are_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(MARKDOWN)
    found = blocks_of(page)
    assert [(item.language, item.line, item.file, item.not_run) for item in found] == [
        ("python", 5, "chat/views.py", None),
        ("console", 12, None, None),
        ("console", 19, None, "it never ends"),
        ("text", 27, None, None),
    ]
    assert found[3].text == "```python\nnot_this = 1\n```\n"


def test_commands_have_their_output() -> None:
    commands = commands_of(block("$ python manage.py check\nno issues\n$ ls\n", "console"))
    assert [(command.words, command.output, command.where) for command in commands] == [
        ("python manage.py check", "no issues\n", "README.md, line 10"),
        ("ls", "", "README.md, line 12"),
    ]
    with pytest.raises(ValueError, match="begins with a command"):
        commands_of(block("no issues\n", "console"))


@pytest.mark.parametrize(
    ("shown", "printed", "same"),
    [
        ("Ran 4 tests in ...\n\nOK\n", "....\nRan 4 tests in 0.1s\n\nOK\n", True),
        ("Ran 4 tests in ...\n\nOK\n", "Ran 3 tests in 0.1s\n\nOK\n", False),
        ("... 8 passed in ...\n", "1 failed, 7 passed in 3s", False),
        ("first\n...\nlast\n", "last first", False),
        ("", "anything", True),
    ],
)
def test_output_is_compared(shown: str, printed: str, same: bool) -> None:
    assert Command("here", "command", shown).printed(printed) is same


def test_a_file_is_written_changed_and_added_to(tmp_path: Path) -> None:
    block("# site/settings.py\nAPPS = [\n    1,\n]\nDEBUG = True\n").write(tmp_path)
    block("# site/settings.py: change\nAPPS = [2]\n").write(tmp_path)
    block("# site/settings.py: add\nLAST = 3\n").write(tmp_path)
    text = (tmp_path / "site" / "settings.py").read_text()
    assert text == "# site/settings.py\nAPPS = [2]\nDEBUG = True\n\nLAST = 3\n"
    with pytest.raises(ValueError, match="the file has no OTHER to change"):
        block("# site/settings.py: change\nOTHER = 1\n").write(tmp_path)


async def test_values_are_compared() -> None:
    names: dict[str, Any] = {}
    await run_block(block("import asyncio\nawait asyncio.sleep(0, 5)  # -> 5\n'a' * 2  # -> 'aa'\n"), names)
    with pytest.raises(AssertionError, match=r"README.md, line 10: the page shows 6, and it is 5"):
        await run_block(block("2 + 3  # -> 6\n"), names)
    with pytest.raises(AssertionError, match="only an expression has a value to show"):
        await run_block(block("five = 2 + 3  # -> 5\n"), names)
    with pytest.raises(AssertionError, match="a value is shown where none is compared"):
        await run_block(block("if True:\n    2 + 3  # -> 6\n    0\n"), names)


async def test_an_error_points_to_the_page() -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        await run_block(block("x = 1\n\nx / 0\n"), {})
    last = caught.traceback[-1]
    assert (str(last.path), last.lineno + 1) == (str(PAGE), 12)


async def test_what_a_page_imports_is_forgotten(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "```python\n# somewhere/thing.py\nvalue = 1\n```\n\n```python\nfrom somewhere.thing import value\n```\n"
    )
    for _ in range(2):
        directory = tmp_path / "files"
        directory.mkdir(exist_ok=True)
        reading = Reading(directory)
        try:
            assert (await reading.read(page))["value"] == 1
        finally:
            reading.close()
        with pytest.raises(ModuleNotFoundError):
            __import__("somewhere.thing")


@pytest.mark.parametrize(
    ("words", "output", "error", "message"),
    [
        ("ls -l", "", ValueError, "nobody knows how to run 'ls -l' here"),
        ("python -c 'print(1)'", "2", AssertionError, "printed\n1"),
        ("python -c 1/0", "", AssertionError, "ended with 1"),
    ],
)
def test_a_command_that_does_not_do_what_the_page_says(
    words: str, output: str, error: type[Exception], message: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=message):
        Project(tmp_path / "project").run(Command("here", words, output))
