"""The command line of the codemod: what is printed where, and the exit code."""

import argparse
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path

from sealane.migrate.change import Changes, Finding, apply, moved
from sealane.migrate.source import Source, diff

__all__ = ["CANNOT_RUN", "DONE", "LEFT", "TO_WRITE", "main"]

#: Nothing to change, or all of it is written, and nothing is left to a person.
DONE = 0
#: There is something to change, which --write would write, and nothing is left to a person.
TO_WRITE = 1
#: The arguments are wrong, or libcst is missing: nothing was looked at.
CANNOT_RUN = 2
#: Something is left to a person, whatever was written.
LEFT = 3

_DESCRIPTION = """\
Rewrite a project from Channels, channels_redis and Daphne to Sealane. Prints a unified diff, which nothing but --write
makes true, and to the standard error what a person has to decide, with file and line."""

_CODES = f"""\
exit codes: {DONE} nothing is left to do; {TO_WRITE} there are changes to --write; {CANNOT_RUN} it could not run;
{LEFT} something is left for you to decide, whatever was written."""


def main(arguments: Sequence[str]) -> int:
    """Run the codemod and return its exit code. Nothing is written without ``--write``."""
    parser = argparse.ArgumentParser(prog="python -m sealane.migrate", description=_DESCRIPTION, epilog=_CODES)
    parser.add_argument("path", metavar="PATH", type=Path, help="a project's folder, or one file")
    parser.add_argument("--write", action="store_true", help="change the files")
    options = parser.parse_args(arguments)
    if importlib.util.find_spec("libcst") is None:
        parser.exit(CANNOT_RUN, "sealane.migrate needs libcst. Install it: pip install 'sealane[migrate]'\n")
    if not options.path.exists():
        parser.error(f"there is no {options.path}")
    return _run(options.path, write=options.write)


def _run(path: Path, *, write: bool) -> int:
    # They import libcst.
    from sealane.migrate.project import files_of, namesakes

    if own := namesakes(path):
        for place in own:
            _complain(
                place,
                Finding(
                    1,
                    f"has the name of a package that is replaced ({place.parent.name}/{place.name}): "
                    "which of the two an import means cannot be told, so nothing was looked at",
                ),
            )
        return LEFT
    changed = left = 0
    entered: Path | None = None
    for file in files_of(path):
        source, changes = _look_at(file, path)
        if changes.enters_apps is not None:
            if entered is not None:
                changes.findings.append(
                    Finding(
                        changes.enters_apps,
                        f"'sealane' is put into a list of applications in "
                        f"{entered} too: keep one, where both lists come together",
                    )
                )
            entered = entered or file
        if source is not None and changes.edits:
            changed += 1
            after = apply(source.text, changes.edits)
            name = file.name if file == path else file.relative_to(path).as_posix()
            sys.stdout.write(diff(name, source.text, after))
            if write:
                _write(source, after, changes)
        for finding in sorted(set(changes.findings)):
            _complain(file, finding)
        left += len(set(changes.findings))
    _sum_up(changed, left, write=write)
    if left:
        return LEFT
    return TO_WRITE if changed and not write else DONE


def _look_at(file: Path, path: Path) -> tuple[Source | None, Changes]:
    from sealane.migrate.names import names
    from sealane.migrate.project import rewrite

    try:
        source = Source.read(file)
    except (OSError, SyntaxError, UnicodeDecodeError) as error:
        return None, Changes(findings=[Finding(1, f"cannot be read, and is left alone: {error}")])
    changes = rewrite(source, names())
    why = None
    if file.is_symlink():
        target = file.resolve()
        if target.is_relative_to(path.resolve()):
            return source, Changes()
        why = f"is a link to {target}: change it there"
    elif "migrations" in file.parts[len(path.parts) :]:
        why = "is a migration, which is left alone: change it only if it has to be run again"
    if why is not None and (changes.edits or changes.findings):
        return source, Changes(findings=[Finding(1, why)])
    return source, changes


def _write(source: Source, after: str, changes: Changes) -> None:
    """Write a file, and let the findings name the lines that are there now."""
    try:
        source.write(after)
    except (OSError, UnicodeEncodeError) as error:
        changes.findings.append(Finding(1, f"could not be written: {error}"))
    else:
        changes.findings = [moved(finding, source.text, changes.edits) for finding in changes.findings]


def _complain(file: Path, finding: Finding) -> None:
    sys.stderr.write(f"{file}:{finding.line}: {finding.text}\n")


def _sum_up(changed: int, left: int, *, write: bool) -> None:
    done = "changed" if write else "to change: run it with --write"
    sys.stderr.write(f"{changed} file{'' if changed == 1 else 's'} {done}; {left} left for you to decide\n")
