"""A Python module as libcst sees it: its tree, and where in the text each node stands."""

import libcst as cst
from libcst.metadata import (
    Assignment,
    ByteSpanPositionProvider,
    ExpressionContext,
    ExpressionContextProvider,
    ImportAssignment,
    MetadataWrapper,
    ParentNodeProvider,
    Scope,
    ScopeProvider,
)

from sealane.migrate.change import Edit, Finding

__all__ = ["Parsed", "dotted_name", "parts_of", "text_of"]


class Parsed:
    """The tree of a module with its metadata. Raises libcst's ParserSyntaxError where the text is not Python."""

    def __init__(self, text: str) -> None:
        wrapper = MetadataWrapper(cst.parse_module(text), unsafe_skip_copy=True)
        self.module = wrapper.module
        self.content = text.encode()
        self._spans = wrapper.resolve(ByteSpanPositionProvider)
        self._scopes = wrapper.resolve(ScopeProvider)
        self._contexts = wrapper.resolve(ExpressionContextProvider)
        self._parents = wrapper.resolve(ParentNodeProvider)

    def span(self, node: cst.CSTNode) -> tuple[int, int]:
        """Return where a node begins and ends, in bytes, without the space around it."""
        span = self._spans[node]
        return span.start, span.start + span.length

    def line(self, node: cst.CSTNode) -> int:
        """Return the number of the line at which a node begins."""
        return self.content.count(b"\n", 0, self.span(node)[0]) + 1

    def parent(self, node: cst.CSTNode) -> cst.CSTNode:
        """Return the node that a node is in."""
        parent: cst.CSTNode = self._parents[node]
        return parent

    def source(self, node: cst.CSTNode) -> str:
        """Return the text of a node."""
        start, end = self.span(node)
        return self.content[start:end].decode()

    def indent(self, node: cst.CSTNode) -> str:
        """Return the white space before a statement that begins a line."""
        start, _ = self.span(node)
        line = self.content[self.content.rfind(b"\n", 0, start) + 1 : start].decode()
        return line[: len(line) - len(line.lstrip())]

    def edit(self, node: cst.CSTNode, text: str) -> Edit:
        """Return the edit that puts a text into a node's place."""
        return Edit(*self.span(node), text)

    def finding(self, node: cst.CSTNode, text: str) -> Finding:
        """Return a finding at the line of a node."""
        return Finding(self.line(node), text)

    def scope(self, node: cst.CSTNode) -> Scope | None:
        """Return the scope that a node is evaluated in."""
        scope: Scope | None = self._scopes.get(node)
        return scope

    def is_read(self, name: cst.Name) -> bool:
        """Tell whether a name is read where it stands: it is no target, parameter, keyword or part of an import."""
        return self._contexts.get(name) is ExpressionContext.LOAD

    def meanings_in(self, scope: Scope, name: str) -> tuple[list[ImportAssignment], set[int]]:
        """Return the imports that a name may come from, and the lines at which anything else is assigned to it."""
        imports: list[ImportAssignment] = []
        others: set[int] = set()
        for meaning in scope[name]:
            if isinstance(meaning, ImportAssignment):
                imports.append(meaning)
            elif isinstance(meaning, Assignment):
                others.add(self.line(meaning.node))
        return imports, others


def parts_of(node: cst.BaseExpression) -> list[cst.Name | cst.Attribute]:
    """Return the nodes of a dotted name, ``a``, ``a.b``, ``a.b.c``, from its beginning; none where it is none."""
    found: list[cst.Name | cst.Attribute] = []
    while isinstance(node, cst.Attribute):
        found.append(node)
        node = node.value
    if not isinstance(node, cst.Name):
        return []
    return [node, *reversed(found)]


def dotted_name(node: cst.BaseExpression | None) -> str:
    """Return a dotted name as it is written; an empty string where it is none."""
    parts = parts_of(node) if node is not None else []
    return ".".join(part.value if isinstance(part, cst.Name) else part.attr.value for part in parts)


def text_of(node: cst.CSTNode | None) -> str | None:
    """Return the value of a string literal; None for anything else, and for bytes and f-strings."""
    if isinstance(node, cst.SimpleString | cst.ConcatenatedString):
        value = node.evaluated_value
        return value if isinstance(value, str) else None
    return None
