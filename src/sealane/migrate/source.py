"""Read a text file and write it back with its encoding, byte order mark, ends of lines and mode."""

import codecs
import difflib
import os
import stat
import tempfile
import tokenize
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Source", "diff"]


@dataclass(frozen=True)
class Source:
    """The text of a file, with its line ends as they are, and how it was encoded."""

    path: Path
    text: str
    encoding: str
    mark: bytes = b""

    @classmethod
    def read(cls, path: Path) -> "Source":
        """Read a file, a Python module in the encoding that it declares, anything else as UTF-8.

        Raises SyntaxError where that encoding is not known, UnicodeDecodeError where it is not the file's, and
        OSError.
        """
        content = path.read_bytes()
        mark = codecs.BOM_UTF8 if content.startswith(codecs.BOM_UTF8) else b""
        encoding = "utf-8"
        if path.suffix in (".py", ".pyi"):
            encoding, _ = tokenize.detect_encoding(iter(content.splitlines(keepends=True)).__next__)
            encoding = encoding.removesuffix("-sig")
        return cls(path, content.removeprefix(mark).decode(encoding), encoding, mark)

    @property
    def newline(self) -> str:
        """The end of its first line."""
        first = self.text.partition("\n")[0]
        return "\r\n" if first.endswith("\r") else "\n"

    def write(self, text: str) -> None:
        """Put another text into the file's place, at once or not at all; the mode stays."""
        mode = stat.S_IMODE(self.path.stat().st_mode)
        descriptor, name = tempfile.mkstemp(dir=self.path.parent, prefix=f".{self.path.name}.")
        try:
            with open(descriptor, "wb") as file:
                file.write(self.mark + text.encode(self.encoding))
            os.chmod(name, mode)
            os.replace(name, self.path)
        except BaseException:
            os.unlink(name)
            raise


def diff(name: str, before: str, after: str) -> str:
    """Return the unified diff of a file, in the form that ``git apply`` and ``patch -p1`` take."""
    lines = difflib.unified_diff(_lines(before), _lines(after), f"a/{name}", f"b/{name}")
    return "".join(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines)


def _lines(text: str) -> list[str]:
    """Split at the ends of lines only: ``str.splitlines`` also splits at a form feed."""
    lines = [f"{line}\n" for line in text.split("\n")]
    last = lines.pop().removesuffix("\n")
    return [*lines, last] if last else lines
