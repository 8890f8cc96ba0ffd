"""Rewrite dotted names in string literals: settings, ``mock.patch``, ``import_string``, the loggers of LOGGING."""

import re
from collections.abc import Collection

import libcst as cst

from sealane.compat.logs import PARENTS
from sealane.migrate.change import Changes
from sealane.migrate.names import OLD_PACKAGES, Names
from sealane.migrate.parsed import Parsed, dotted_name, text_of

__all__ = ["rewrite_strings"]

_DOTTED = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")

#: A text that becomes a dotted name of an old package when something is put in or added.
_BEGINNING = re.compile(rf"(?:{'|'.join(OLD_PACKAGES)})\.[\w.%{{}}()]*")

#: Functions whose argument names a package that has to be there, and which of ours stands for which.
_ASKS_FOR_PACKAGE = frozenset({"find_spec", "importorskip", "import_module", "is_installed"})

#: Functions that are given a package, and do with it what cannot be told from the source.
_TAKES_PACKAGE = frozenset({"__import__", "get_app_config", "version", "metadata", "distribution", "requires"})

#: By the names of loggers that compat hands Sealane's records to. django.channels.server is not among them: the
#: development server has kept it.
_LOGGERS = {old: new for new, old in PARENTS.items()}


def rewrite_strings(parsed: Parsed, names: Names, seen: Collection[cst.CSTNode] = ()) -> Changes:
    """Return the edits for each literal that is wholly a name of the old packages, and what only may be one.

    Literals of which this is not certain stay: ``"channels"`` alone, a model's label such as ``"channels.Channel"``,
    docstrings, and texts that mention a name among other words. ``seen`` are literals that others have judged.
    """
    walk = _Strings(parsed, names, seen)
    parsed.module.visit(walk)
    return walk.changes


class _Strings(cst.CSTVisitor):
    def __init__(self, parsed: Parsed, names: Names, seen: Collection[cst.CSTNode]) -> None:
        super().__init__()
        self._parsed = parsed
        self._names = names
        self.changes = Changes()
        self._seen = set(seen)

    def visit_Expr(self, node: cst.Expr) -> bool:
        return text_of(node.value) is None

    def visit_Call(self, node: cst.Call) -> None:
        function = dotted_name(node.func).rpartition(".")[2]
        first = node.args[0].value if node.args else None
        text = text_of(first)
        if first is None or text is None:
            return
        if function == "getLogger":
            self._rename_logger(first, text)
        elif text in OLD_PACKAGES and function in _ASKS_FOR_PACKAGE:
            if text == "daphne":
                self._find(first, f"{function}('daphne'): Sealane has no server of its own; say what to ask for")
            else:
                self._replace(first, "sealane")
        elif text.partition(".")[0] in OLD_PACKAGES and function in _TAKES_PACKAGE:
            self._find(first, f"{function}({text!r}): look what is done with the package")
            self._seen.add(first)

    def visit_Comparison(self, node: cst.Comparison) -> None:
        text = text_of(node.left)
        if text in OLD_PACKAGES and isinstance(node.comparisons[0].operator, cst.In | cst.NotIn):
            asked = dotted_name(node.comparisons[0].comparator).rpartition(".")[2]
            if asked == "INSTALLED_APPS" and text == "channels":
                self._replace(node.left, "sealane")
            elif asked in ("INSTALLED_APPS", "modules"):
                self._find(node.left, f"{text!r} in {asked}: Sealane is called 'sealane'")

    def visit_DictElement(self, node: cst.DictElement) -> None:
        if text_of(node.key) != "loggers" or not isinstance(node.value, cst.Dict):
            return
        present = {text_of(item.key) for item in node.value.elements if isinstance(item, cst.DictElement)}
        for item in node.value.elements:
            name = text_of(item.key) if isinstance(item, cst.DictElement) else None
            if isinstance(item, cst.DictElement) and name is not None:
                self._rename_logger(item.key, name, present)

    def _rename_logger(self, node: cst.BaseExpression, name: str, present: set[str | None] | None = None) -> None:
        self._seen.add(node)
        # Below channels_redis each module has a logger of its own.
        new = _LOGGERS.get("channels_redis" if name.startswith("channels_redis.") else name)
        if new is not None:
            if present is not None and new in present:
                self._find(node, f"logger {name!r}: {new!r} takes its place, and is there already; remove one")
            else:
                if present is not None:
                    present.add(new)
                self._replace(node, new)
        elif name.partition(".")[0] == "daphne":
            self._find(node, f"logger {name!r}: your server's own takes its place, 'uvicorn.error' for example")

    def visit_SimpleString(self, node: cst.SimpleString) -> None:
        text = text_of(node)
        if text is None or node in self._seen:
            return
        if not _DOTTED.fullmatch(text):
            if _BEGINNING.fullmatch(text):
                self._find(node, f"{text!r} is a part of a name: look what is put together here")
            return
        if "." not in text:
            return
        found = self._names.find_prefix(text)
        if found is not None:
            count, target = found
            self._replace(node, ".".join([str(target), *text.split(".")[count:]]))
        elif self._names.is_meant(text):
            self._find(node, f"{text!r} has no counterpart in Sealane")

    def visit_FormattedStringText(self, node: cst.FormattedStringText) -> None:
        if _BEGINNING.fullmatch(node.value):
            self._find(node, f"{node.value!r} is a part of a name: look what is put together here")

    def _replace(self, node: cst.BaseExpression, text: str) -> None:
        self._seen.add(node)
        if isinstance(node, cst.SimpleString):
            self.changes.edits.append(self._parsed.edit(node, f"{node.prefix}{node.quote}{text}{node.quote}"))
        else:
            self._find(node, f"{text_of(node)!r} is {text!r} in Sealane: the literal is in parts")

    def _find(self, node: cst.CSTNode, text: str) -> None:
        self.changes.findings.append(self._parsed.finding(node, text))
