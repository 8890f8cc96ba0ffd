"""Rewrite INSTALLED_APPS: ``"sealane"`` first, once, in the place of ``"channels"`` and ``"daphne"``."""

import libcst as cst

from sealane.migrate.change import Changes, Edit
from sealane.migrate.parsed import Parsed, dotted_name, text_of

__all__ = ["rewrite_installed_apps"]

#: What stands in INSTALLED_APPS for the applications that Sealane takes the place of.
_OLD = frozenset({"channels", "channels.apps.ChannelsConfig", "daphne", "daphne.apps.DaphneConfig"})
_NEW = frozenset({"sealane", "sealane.apps.SealaneConfig"})

_FIRST = "'sealane' has to be the first of INSTALLED_APPS, or stand before django.contrib.staticfiles at least"


def rewrite_installed_apps(parsed: Parsed) -> tuple[Changes, set[cst.CSTNode]]:
    """Return what is to be done to the lists of applications, and the literals that were looked at.

    Such a list is one that is assigned or added to a name that ends with APPS. In INSTALLED_APPS itself ``"sealane"``
    is put first; in a list that is only a part of it, into the place of the first that goes.
    """
    walk = _Lists(parsed)
    parsed.module.visit(walk)
    return walk.changes, walk.seen


class _Lists(cst.CSTVisitor):
    def __init__(self, parsed: Parsed) -> None:
        super().__init__()
        self._parsed = parsed
        self._is_in = any(f"{quote}sealane{quote}".encode() in parsed.content for quote in "'\"")
        self.changes = Changes()
        self.seen: set[cst.CSTNode] = set()

    def visit_Assign(self, node: cst.Assign) -> None:
        for target in node.targets:
            self._look(dotted_name(target.target), node.value, whole=True)

    def visit_AnnAssign(self, node: cst.AnnAssign) -> None:
        if node.value is not None:
            self._look(dotted_name(node.target), node.value, whole=True)

    def visit_AugAssign(self, node: cst.AugAssign) -> None:
        self._look(dotted_name(node.target), node.value, whole=False)

    def visit_Call(self, node: cst.Call) -> None:
        """Leave ``INSTALLED_APPS.insert(0, "daphne")`` to a person: what it does depends on what ran before."""
        path, _, method = dotted_name(node.func).rpartition(".")
        if not _is_list_of_apps(path) or method not in ("append", "insert", "extend", "remove", "index"):
            return
        for argument in node.args:
            for literal in _literals(argument.value):
                if text_of(literal) in _OLD:
                    self.seen.add(literal)
                    self._find(literal, f"{path}.{method}({self._parsed.source(literal)}): {_FIRST}")

    def _look(self, name: str, value: cst.BaseExpression, *, whole: bool) -> None:
        if not _is_list_of_apps(name):
            return
        while isinstance(value, cst.BinaryOperation):
            # The first list of a sum is where the first application stands.
            self._look(name, value.right, whole=False)
            value, whole = value.left, whole
        if isinstance(value, cst.List | cst.Tuple) and value.elements:
            self._rewrite(name, value, first=whole and name.rpartition(".")[2] == "INSTALLED_APPS")
        elif not isinstance(value, cst.List | cst.Tuple):
            walk = _Literals()
            value.visit(walk)
            for literal in walk.found:
                self.seen.add(literal)
                self._find(literal, f"{name} has {self._parsed.source(literal)}: {_FIRST}")

    def _rewrite(self, name: str, value: cst.List | cst.Tuple, *, first: bool) -> None:
        elements = list(value.elements)
        old = [element for element in elements if text_of(element.value) in _OLD]
        if not old:
            return
        self.seen.update(element.value for element in old)
        if not self._is_in:
            self._is_in = True
            self.changes.enters_apps = self._parsed.line(value)
            place = elements[0] if first else old[0]
            if place in old:
                old.remove(place)
                self.changes.edits.append(self._parsed.edit(place.value, self._quoted(place)))
            else:
                start, _ = self._parsed.span(place)
                between = self._between(value, place)
                self.changes.edits.append(Edit(start, start, f"{self._quoted(place)},{between}"))
            if not first:
                self._find(value, f"{name}: {_FIRST}; look where this list comes in")
        for element in old:
            self._remove(element, elements)

    def _quoted(self, element: cst.BaseElement) -> str:
        literal = element.value
        quote = literal.quote if isinstance(literal, cst.SimpleString) and len(literal.quote) == 1 else '"'
        return f"{quote}sealane{quote}"

    def _between(self, value: cst.List | cst.Tuple, place: cst.BaseElement) -> str:
        """The space between the first application and a new one before it: as the list has it at its head."""
        start, _ = self._parsed.span(place)
        line = self._parsed.content[self._parsed.content.rfind(b"\n", 0, start) + 1 : start]
        if line.strip():
            return " "
        return ("\r\n" if b"\r\n" in self._parsed.content[:start] else "\n") + line.decode()

    def _remove(self, element: cst.BaseElement, elements: list[cst.BaseElement]) -> None:
        """Take an application out: its lines with what stands behind it, or no more than its part of a line."""
        content = self._parsed.content
        start, end = self._parsed.span(element)
        line_start = content.rfind(b"\n", 0, start) + 1
        line_end = content.find(b"\n", end) + 1 or len(content)
        behind = content[end:line_end].strip().removeprefix(b",").strip()
        index = elements.index(element)
        if not content[line_start:start].strip() and (not behind or behind.startswith(b"#")):
            self.changes.edits.append(Edit(line_start, line_end, ""))
        elif index + 1 < len(elements):
            self.changes.edits.append(Edit(start, self._parsed.span(elements[index + 1])[0], ""))
        elif index > 0:
            # The comma before it goes, and the one behind it, which a list may end with, stays.
            self.changes.edits.append(
                Edit(self._parsed.span(elements[index - 1].value)[1], self._parsed.span(element.value)[1], "")
            )
        else:
            comma = content[end:line_end].lstrip().startswith(b",")
            self.changes.edits.append(Edit(start, content.index(b",", end) + 1 if comma else end, ""))

    def _find(self, node: cst.CSTNode, text: str) -> None:
        self.changes.findings.append(self._parsed.finding(node, text))


class _Literals(cst.CSTVisitor):
    """The applications that go, somewhere in an expression: a default of the environment, or a condition."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[cst.SimpleString] = []

    def visit_SimpleString(self, node: cst.SimpleString) -> None:
        if text_of(node) in _OLD:
            self.found.append(node)


def _is_list_of_apps(name: str) -> bool:
    return name.rpartition(".")[2].upper().endswith("APPS")


def _literals(value: cst.BaseExpression) -> list[cst.BaseExpression]:
    if isinstance(value, cst.List | cst.Tuple):
        return [element.value for element in value.elements]
    return [value]
