"""The page use-third-party-packages.md: what it says was tried is what the tests install and use."""

import re
import subprocess
import sys
from pathlib import Path

from tests.docs.snippets import DOCS, ROOT, blocks_of

PAGE = DOCS / "how-to" / "use-third-party-packages.md"
THIRD_PARTY = ROOT / "tests" / "third_party"


def test_the_versions_are_those_that_are_installed() -> None:
    shown = dict(re.findall(r"^\| ([\w-]+) \| ([\d.]+) \|", PAGE.read_text(), re.MULTILINE))
    required = "".join((THIRD_PARTY / f"requirements{kind}.txt").read_text() for kind in ("", "-no-deps"))
    installed = dict(re.findall(r"^([\w-]+)(?:\[\w+\])?[>=]=([\d.]+)$", required, re.MULTILINE))
    assert {"djangorestframework", *shown} == set(installed)
    assert {name: installed[name] for name in shown} == shown


def test_the_line_works(tmp_path: Path) -> None:
    """In a process of its own: it holds for the whole of one."""
    (block,) = [block for block in blocks_of(PAGE) if block.language == "python"]
    block.write(tmp_path)
    code = "import mysite, channels.consumer, sealane.consumers as ours; "
    code += "assert channels.consumer.AsyncConsumer is ours.AsyncConsumer"
    path = [str(tmp_path), str(ROOT / "src")]
    subprocess.run([sys.executable, "-c", f"import sys; sys.path[:0] = {path}; {code}"], check=True)
