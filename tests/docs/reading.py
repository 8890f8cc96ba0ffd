"""The Python of a page, run from its top to its bottom in one namespace, as a reader would type it in."""

import ast
import asyncio
import importlib
import inspect
import re
import sys
import types
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.docs.snippets import Block, blocks_of

__all__ = ["Reading", "put_instead", "run_block"]

#: What the page says of the value of an expression: `group_name("room", 42)  # -> 'room.42'`.
_RESULT = re.compile(r".*  # -> (?P<value>.+)")


class Reading:
    """Somebody reads a page, in a directory of their own, and does what it says."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        #: What the code of the page has defined.
        self.names: dict[str, Any] = {"__name__": "page"}
        self._modules = set(sys.modules)
        sys.path.insert(0, str(directory))

    async def read(self, page: Path, instead: Mapping[str, str] | None = None) -> dict[str, Any]:
        """Run the Python of a page, and return what it has defined; a block that is a file is imported.

        ``instead`` maps addresses that stand in the page to those of servers that are there.
        """
        for block in blocks_of(page):
            if block.language != "python" or block.not_run:
                continue
            if instead:
                block = replace(block, text=put_instead(block.text, instead))
            if block.file is None:
                await run_block(block, self.names)
            else:
                block.write(self.directory)
                importlib.invalidate_caches()
                module = await asyncio.to_thread(
                    importlib.import_module, block.file.removesuffix(".py").replace("/", ".")
                )
                self.names[module.__name__] = module
        return self.names

    def close(self) -> None:
        """Forget the files of the page."""
        sys.path.remove(str(self.directory))
        # Backwards: a namespace package asks its parent where it is.
        for name in sorted(set(sys.modules) - self._modules, reverse=True):
            # A directory without an __init__.py is a module without a file.
            places = [getattr(sys.modules[name], "__file__", None), *getattr(sys.modules[name], "__path__", [])]
            if any(place and Path(place).is_relative_to(self.directory) for place in places):
                del sys.modules[name]


def put_instead(text: str, instead: Mapping[str, str]) -> str:
    """Return a text with other addresses, the longest put in first, since one may be part of another."""
    for address in sorted(instead, key=len, reverse=True):
        text = text.replace(address, instead[address])
    return text


async def run_block(block: Block, names: dict[str, Any]) -> None:
    """Run a block, await what it awaits, and compare the values that it shows."""
    tree = ast.parse(block.text)
    lines = block.text.splitlines()
    shown = 0
    for statement in tree.body:
        found = _RESULT.fullmatch(lines[(statement.end_lineno or 0) - 1])
        if found is None:
            continue
        assert isinstance(statement, ast.Expr), f"{block.where}: only an expression has a value to show"
        shown += 1
        check = ast.parse(f"_page_shows(None, {found['value']!r})", mode="eval").body
        assert isinstance(check, ast.Call)
        check.args[0] = statement.value
        statement.value = check
    assert shown == len(re.findall("# -> ", block.text)), f"{block.where}: a value is shown where none is compared"

    def compare(value: object, expected: str) -> None:
        assert repr(value) == expected, f"{block.where}: the page shows {expected}, and it is {value!r}"

    names["_page_shows"] = compare
    # Numbered as in the page, so that a traceback points there.
    ast.fix_missing_locations(ast.increment_lineno(tree, block.line - 1))
    code = compile(tree, str(block.page), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    run = types.FunctionType(code, names)
    if code.co_flags & inspect.CO_COROUTINE:
        await run()
    else:
        # Without an event loop around it, as in a shell or a view.
        await asyncio.to_thread(run)
