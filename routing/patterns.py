"""Django's URL patterns, compiled for routing: what a path leaves over, and what it captures."""

import re
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from django.urls.converters import StringConverter
from django.urls.resolvers import RegexPattern, RoutePattern

__all__ = ["CompiledPattern", "Found", "Matcher", "Pattern", "compile_pattern"]

#: What a pattern found in a path: the rest of the path, positional arguments, keyword arguments.
Found = tuple[str, tuple[Any, ...], dict[str, Any]]

#: A pure function from a path to what was found in it, or None where it does not match.
Matcher = Callable[[str], Found | None]

#: The plain characters after "^", without one that a quantifier makes optional.
_LITERAL_HEAD = re.compile(r"\^((?:[a-zA-Z0-9_/-](?![*?{]))*)")


class Pattern(Protocol):
    """What the ``pattern`` of a Django route offers, whichever of Django's classes it is."""

    def match(self, path: str, /) -> Found | None: ...


class CompiledPattern(NamedTuple):
    """A pattern, ready to be asked.

    ``head`` begins every path that it matches, so that a comparison can spare the question. ``exact`` is the one path
    that it matches, where there is no more than one; None for any other pattern.
    """

    match: Matcher
    head: str = ""
    exact: str | None = None


def compile_pattern(pattern: Pattern, *, prefix: bool = False) -> CompiledPattern:
    """Compile a pattern of ``path()``, ``re_path()`` or ``i18n_patterns()``, and leave the pattern as it is.

    The result finds what ``pattern.match`` finds. With ``prefix`` it matches the beginning of a path even where the
    pattern was made for the whole of it, since a nested router wants the rest.

    A pattern in a lazily translated string, and a language prefix, follow the language that is active at each match. A
    class of patterns that is not Django's keeps its own ``match``; where ``prefix`` is wanted and it derives from one
    of Django's, another instance is made of it, in the way in which ``path()`` makes them.
    """
    if not isinstance(pattern, RoutePattern | RegexPattern):
        return CompiledPattern(pattern.match)
    source, endpoint = _declared(pattern)
    known = type(pattern) is RoutePattern or type(pattern) is RegexPattern
    if known or (prefix and endpoint):
        endpoint = endpoint and not prefix
        pattern = type(pattern)(source, name=pattern.name, is_endpoint=endpoint)
    if not known or not isinstance(source, str):
        return CompiledPattern(pattern.match)
    if isinstance(pattern, RegexPattern):
        return _compile_regex(pattern.regex, endpoint=endpoint)
    if pattern.converters:
        return _compile_route(pattern, source)
    if endpoint:
        return CompiledPattern(_match_exactly(source), source, source)
    return CompiledPattern(_match_prefix(source), source)


def _declared(pattern: RoutePattern | RegexPattern) -> tuple[Any, bool]:
    # Private attributes, for want of public ones: str(pattern) would freeze the language of a translated string.
    fields = vars(pattern)
    source = fields["_route"] if isinstance(pattern, RoutePattern) else fields["_regex"]
    return source, fields["_is_endpoint"]


def _match_exactly(route: str) -> Matcher:
    def match(path: str) -> Found | None:
        return ("", (), {}) if path == route else None

    return match


def _match_prefix(route: str) -> Matcher:
    size = len(route)

    def match(path: str) -> Found | None:
        return (path[size:], (), {}) if path.startswith(route) else None

    return match


def _compile_route(pattern: RoutePattern, route: str) -> CompiledPattern:
    # The expression always begins with "^": match() is search() without the walk through a long path.
    find = pattern.regex.match
    conversions = [
        (name, converter.to_python)
        for name, converter in pattern.converters.items()
        if getattr(converter.to_python, "__func__", None) is not StringConverter.to_python
    ]

    def match(path: str) -> Found | None:
        found = find(path)
        if found is None:
            return None
        kwargs = found.groupdict()
        for name, to_python in conversions:
            try:
                kwargs[name] = to_python(kwargs[name])
            except ValueError:
                return None
        return path[found.end() :], (), kwargs

    return CompiledPattern(match, route.partition("<")[0])


def _compile_regex(regex: re.Pattern[str], *, endpoint: bool) -> CompiledPattern:
    source = regex.pattern
    # It can match at the beginning of a path only, so search() would walk through a long path for nothing. Flags that
    # change what "^" means have to stand in front of it.
    anchored = source.startswith(("^", r"\A")) and "|" not in source
    if endpoint and source.endswith("$"):
        # Not match(): "$" would let a line feed at the end pass.
        find = regex.fullmatch
    else:
        find = regex.match if anchored else regex.search

    def match(path: str) -> Found | None:
        found = find(path)
        if found is None:
            return None
        named = found.groupdict()
        args = () if named else found.groups()
        return path[found.end() :], args, {name: value for name, value in named.items() if value is not None}

    head = _LITERAL_HEAD.match(source) if anchored else None
    return CompiledPattern(match, head[1] if head else "")
