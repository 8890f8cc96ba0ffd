"""What a rewriter says of one file: which bytes to replace by what, and what it leaves to a person."""

from collections.abc import Iterable
from dataclasses import dataclass, field

__all__ = ["Changes", "Edit", "Finding", "apply", "moved"]


@dataclass(frozen=True, order=True)
class Edit:
    """Replace the bytes from ``start`` to ``end`` of a file's text, as UTF-8, by ``text``."""

    start: int
    end: int
    text: str


@dataclass(frozen=True, order=True)
class Finding:
    """Something at a line, counted from 1, that a person has to decide or to do, and what."""

    line: int
    text: str


@dataclass
class Changes:
    """All that is to be done in one file."""

    edits: list[Edit] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    #: The line of the first list of applications that Sealane is put into.
    enters_apps: int | None = None

    def add(self, other: "Changes") -> None:
        """Take over what another rewriter has found in the same text."""
        self.edits += other.edits
        self.findings += other.findings
        if self.enters_apps is None:
            self.enters_apps = other.enters_apps


def apply(text: str, edits: Iterable[Edit]) -> str:
    """Return the text with the edits made. They may touch, and may not overlap; the same one twice counts once."""
    content = text.encode()
    parts = []
    place = 0
    for edit in sorted(set(edits)):
        if edit.start < place:
            raise ValueError(f"two edits overlap at byte {edit.start}: {edit.text!r}")
        parts += [content[place : edit.start], edit.text.encode()]
        place = edit.end
    return b"".join([*parts, content[place:]]).decode()


def moved(finding: Finding, text: str, edits: Iterable[Edit]) -> Finding:
    """Return a finding in a text with the line that it has when the edits are made."""
    content = text.encode()
    line = finding.line
    for edit in set(edits):
        if content.count(b"\n", 0, edit.start) + 1 < finding.line:
            line += edit.text.count("\n") - content.count(b"\n", edit.start, edit.end)
    return Finding(line, finding.text)
