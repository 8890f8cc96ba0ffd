"""Find commands that start Daphne, and say what starts uvicorn in the same way."""

import re
import shlex

from sealane.migrate.change import Changes, Finding

__all__ = ["report_commands", "uvicorn_command"]

_STARTS_DAPHNE = re.compile(r"(?<![\w./-])(?:[\w./-]*/)?daphne(?=[\s\"',]|$)(?P<rest>.*)")

#: Options of Daphne with a value, and without one, with uvicorn's; None where it has none or needs none.
_WITH_VALUE = {
    "-b": "--host",
    "--bind": "--host",
    "-p": "--port",
    "--port": "--port",
    "-u": "--uds",
    "--unix-socket": "--uds",
    "--fd": "--fd",
    "--root-path": "--root-path",
    "--ping-interval": "--ws-ping-interval",
    "--ping-timeout": "--ws-ping-timeout",
    "-v": None,
    "--verbosity": None,
    "--access-log": None,
}
_WITHOUT_VALUE = {"--proxy-headers": "--proxy-headers"}


def report_commands(text: str) -> Changes:
    """Return a finding for each line that starts Daphne: of a Dockerfile, a Procfile, a unit of systemd."""
    changes = Changes()
    for number, line in enumerate(text.split("\n"), 1):
        if line.lstrip().startswith("#"):
            continue
        if (found := _STARTS_DAPHNE.search(line)) is not None:
            command = uvicorn_command(found["rest"])
            if command is not None:
                changes.findings.append(Finding(number, f"starts Daphne, which can go on; on uvicorn: {command}"))
    return changes


def uvicorn_command(rest: str) -> str | None:
    """Return the command for uvicorn that does what ``daphne`` with these arguments does; None where it starts nothing.

    The arguments may be words of a shell or the strings of a JSON array. Options that uvicorn does not have are left
    out and named.
    """
    rest = rest.strip().rstrip("\\").removeprefix('"').removeprefix("'")
    try:
        words = re.findall(r"[\"']([^\"']*)[\"']", rest) if rest.startswith(",") else shlex.split(rest)
    except ValueError:
        words = rest.split()
    words = [word for word in words if word not in (",", "]")]
    options: list[str] = []
    unknown: list[str] = []
    application = None
    while words:
        word = words.pop(0)
        name, equals, value = word.partition("=")
        if name in _WITHOUT_VALUE:
            options.append(_WITHOUT_VALUE[name])
        elif name in _WITH_VALUE:
            value = value if equals else words.pop(0) if words else ""
            if (ours := _WITH_VALUE[name]) is not None:
                options += [ours, value]
        elif word.startswith("-"):
            unknown.append(name)
            if not equals and words and not words[0].startswith("-") and not _is_application(words[0]):
                words.pop(0)
        elif _is_application(word):
            application = word
            break
    if application is None and not options:
        return None
    # Not shlex.join(): it would quote $PORT.
    command = " ".join(["uvicorn", *options, application or "your.asgi:application"])
    return f"{command} (look for what {', '.join(unknown)} did)" if unknown else command


def _is_application(word: str) -> bool:
    return re.fullmatch(r"[^\W\d][\w.]*:[^\W\d][\w.]*", word) is not None
