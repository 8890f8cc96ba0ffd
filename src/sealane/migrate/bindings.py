"""The names that imports bind to modules of Channels, what is read through them, and what that becomes."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import libcst as cst
from libcst.metadata import Scope

from sealane.migrate.change import Edit, Finding
from sealane.migrate.names import OLD_PACKAGES, Names, Target
from sealane.migrate.parsed import Parsed, dotted_name, parts_of

__all__ = ["Binding", "Bindings", "bound_module"]


@dataclass
class Binding:
    """A name, in one scope, that means a module of the old packages, by one import or by several.

    ``module`` is what the name means: after ``import channels.layers``, ``channels``. ``undecided`` says why its
    imports have to stay as they are.
    """

    name: str
    module: str
    imports: list[cst.ImportAlias] = field(default_factory=list)
    edits: list[Edit] = field(default_factory=list)
    undecided: list[Finding] = field(default_factory=list)
    #: The modules of Sealane that are reached through the name, and whether the name is read by itself.
    needed: dict[str, None] = field(default_factory=dict)
    bare: bool = False

    @property
    def is_root(self) -> bool:
        """Tell whether it comes from ``import channels.layers`` without an ``as``."""
        return self.module in OLD_PACKAGES and self.name == self.module


def bound_module(
    statement: cst.Import | cst.ImportFrom, alias: cst.ImportAlias, names: Names
) -> tuple[str, str] | None:
    """Return the name that an import binds to a module of the old packages, and that module; None where it does not."""
    path = dotted_name(alias.name)
    if isinstance(statement, cst.ImportFrom):
        path = f"{dotted_name(statement.module)}.{path}"
    root = path.partition(".")[0]
    if root not in OLD_PACKAGES or (isinstance(statement, cst.ImportFrom) and not names.is_module(path)):
        return None
    if alias.asname is not None:
        return dotted_name(alias.asname.name), path
    if isinstance(statement, cst.ImportFrom):
        return path.rpartition(".")[2], path
    return root, root


class Bindings(cst.CSTVisitor):
    """Collects the bindings of a module in one walk, and judges what is read through them in a second one."""

    def __init__(self, parsed: Parsed, names: Names) -> None:
        super().__init__()
        self._parsed = parsed
        self._names = names
        self._found: dict[tuple[Scope | None, str], Binding] = {}
        self._by_alias: dict[cst.ImportAlias, Binding] = {}
        self._by_statement: dict[tuple[cst.CSTNode, str], Binding] = {}
        self._imports = _Imports()
        parsed.module.visit(self._imports)
        for statement in self._imports.found:
            self._bind(statement)
        for binding in self:
            self._look_for_others(binding)
        if self._found:
            parsed.module.visit(self)

    def __iter__(self) -> Iterator[Binding]:
        return iter(self._found.values())

    @property
    def statements(self) -> list[cst.Import | cst.ImportFrom]:
        """All imports of the module, of whatever it is."""
        return self._imports.found

    def of(self, alias: cst.ImportAlias) -> Binding | None:
        """Return the binding that an import makes, or adds to."""
        return self._by_alias.get(alias)

    def _bind(self, statement: cst.Import | cst.ImportFrom) -> None:
        if isinstance(statement.names, cst.ImportStar) or (
            isinstance(statement, cst.ImportFrom) and statement.relative
        ):
            return
        for alias in statement.names:
            bound = bound_module(statement, alias, self._names)
            if bound is None:
                continue
            name, module = bound
            key = self._parsed.scope(statement), name
            binding = self._found.setdefault(key, Binding(name, module))
            if binding.module != module:
                binding.undecided.append(
                    self._parsed.finding(alias, f"{name} is {binding.module} and {module}: rename one of them")
                )
            binding.imports.append(alias)
            self._by_alias[alias] = binding
            self._by_statement[statement, name] = binding

    def visit_Import(self, node: cst.Import) -> bool:
        return False

    def visit_ImportFrom(self, node: cst.ImportFrom) -> bool:
        return False

    def visit_Attribute(self, node: cst.Attribute) -> bool:
        parts = parts_of(node)
        if not parts:
            return True
        self._judge(parts)
        return False

    def visit_Name(self, node: cst.Name) -> None:
        if self._parsed.is_read(node):
            self._judge([node])

    def _look_for_others(self, binding: Binding) -> None:
        """Leave alone what is something else as well: ``channels = None`` where the import fails, for example."""
        scope = self._parsed.scope(self._parsed.parent(binding.imports[0]))
        assert scope is not None
        imports, others = self._parsed.meanings_in(scope, binding.name)
        ways = [f"line {line}" for line in sorted(others)]
        if binding.name in self._imports.shared:
            ways.append("another scope")
        if any((item.node, binding.name) not in self._by_statement for item in imports):
            ways.append("another import")
        if ways:
            self._leave(
                binding,
                binding.imports[0],
                f"{binding.name} may also come from {' and '.join(ways)}: decide what it is to be",
            )

    def _judge(self, parts: list[cst.Name | cst.Attribute]) -> None:
        base = parts[0]
        assert isinstance(base, cst.Name)
        scope = self._parsed.scope(base)
        if scope is None:
            return
        imports, _ = self._parsed.meanings_in(scope, base.value)
        found = [self._by_statement.get((item.node, base.value)) for item in imports]
        for binding in {id(item): item for item in found if item is not None}.values():
            self._replace(binding, parts)

    def _replace(self, binding: Binding, parts: list[cst.Name | cst.Attribute]) -> None:
        rest = ".".join(part.attr.value for part in parts if isinstance(part, cst.Attribute))
        path = f"{binding.module}.{rest}" if rest else binding.module
        if not rest:
            binding.bare = True
            if binding.module == "channels" and binding.is_root:
                binding.edits.append(self._parsed.edit(parts[0], "sealane"))
            return
        found = self._names.find_prefix(path)
        if found is None:
            self._leave(binding, parts[-1], f"{path} has no counterpart in Sealane")
            return
        count, target = found
        # How many of the parts here are what was found.
        own = count - binding.module.count(".") - 1
        if binding.is_root:
            binding.needed[target.module] = None
            binding.edits.append(self._parsed.edit(parts[own], str(target)))
        else:
            self._replace_attribute(binding, parts[own], path, target)

    def _replace_attribute(self, binding: Binding, node: cst.Name | cst.Attribute, path: str, target: Target) -> None:
        """Judge ``layers.get_channel_layer`` after ``from channels import layers``: the name before the dot stays."""
        whole = self._names.find(binding.module)
        if whole is None or target.name is None or target.module != whole.module:
            self._leave(
                binding, node, f"{path} is {target} now, which is not reached through {binding.name}: import it"
            )
        else:
            binding.edits.append(self._parsed.edit(node, f"{binding.name}.{target.name}"))

    def _leave(self, binding: Binding, node: cst.CSTNode, text: str) -> None:
        finding = self._parsed.finding(node, text)
        if finding not in binding.undecided:
            binding.undecided.append(finding)


class _Imports(cst.CSTVisitor):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[cst.Import | cst.ImportFrom] = []
        #: The names that some scope takes from another one, to assign to them there.
        self.shared: set[str] = set()

    def visit_NameItem(self, node: cst.NameItem) -> None:
        self.shared.add(node.name.value)

    def visit_Import(self, node: cst.Import) -> None:
        self.found.append(node)

    def visit_ImportFrom(self, node: cst.ImportFrom) -> None:
        self.found.append(node)
