"""Rewrite the import statements of a module, and what is read through the modules that they bind."""

import libcst as cst

from sealane.migrate.bindings import Binding, Bindings
from sealane.migrate.change import Changes, Edit
from sealane.migrate.names import OLD_PACKAGES, Names, Target
from sealane.migrate.parsed import Parsed, dotted_name
from sealane.migrate.splitting import Imported, split

__all__ = ["rewrite_imports"]


def rewrite_imports(parsed: Parsed, names: Names, newline: str) -> Changes:
    """Return the edits that import from Sealane what comes from the old packages, and what cannot be decided.

    A name keeps what it is called in the module: where Sealane's differs, the import says ``as``. A module whose use
    is not wholly clear stays, with every line that reads it.
    """
    changes = Changes()
    bindings = Bindings(parsed, names)
    for binding in bindings:
        changes.findings += binding.undecided
        if not binding.undecided:
            if binding.is_root:
                _import_what_is_needed(binding, parsed, names, changes, newline)
            if not binding.undecided:
                changes.edits += binding.edits
    for statement in bindings.statements:
        if isinstance(statement, cst.ImportFrom):
            _rewrite_from(statement, bindings, parsed, names, changes, newline)
        else:
            _rewrite_plain(statement, bindings, parsed, names, changes)
    return changes


def _rewrite_plain(statement: cst.Import, bindings: Bindings, parsed: Parsed, names: Names, changes: Changes) -> None:
    """Rewrite ``import channels.layers as layers``; without the ``as`` it is a matter of all imports of the name."""
    for alias in statement.names:
        path = dotted_name(alias.name)
        binding = bindings.of(alias)
        if binding is None or binding.is_root or binding.undecided:
            continue
        target = names.find(path)
        if target is None:
            changes.findings.append(parsed.finding(alias, f"{path} has no counterpart in Sealane"))
        else:
            changes.edits.append(parsed.edit(alias.name, target.module))


def _import_what_is_needed(binding: Binding, parsed: Parsed, names: Names, changes: Changes, newline: str) -> None:
    """Rewrite every ``import channels.layers`` that binds ``channels`` in one scope."""
    wanted = dict(binding.needed)
    if binding.bare:
        wanted["sealane"] = None
        changes.findings.append(
            parsed.finding(binding.imports[0], f"{binding.name} itself is used, and is sealane now: look what for")
        )
    own: list[str | None] = []
    for alias in binding.imports:
        target = names.find(dotted_name(alias.name))
        own.append(None if target is None or target.module == "sealane" else target.module)
    left = [module for module in wanted if module not in own]
    if not left and not any(own) and binding.module == "channels":
        left = ["sealane"]
    if not left and not any(own):
        path = dotted_name(binding.imports[0].name)
        binding.undecided.append(parsed.finding(binding.imports[0], f"{path} has no counterpart in Sealane"))
        changes.findings += binding.undecided
        return
    seen: set[str] = set()
    for number, (alias, module) in enumerate(zip(binding.imports, own, strict=True)):
        modules = [module] if module is not None else []
        if number == len(own) - 1 or module is None:
            modules += left
            left = []
        changes.edits.append(
            _imported_as(alias, [item for item in modules if item not in seen] or modules[:1], parsed, newline)
        )
        seen.update(modules)


def _imported_as(alias: cst.ImportAlias, modules: list[str], parsed: Parsed, newline: str) -> Edit:
    statement = parsed.parent(alias)
    assert isinstance(statement, cst.Import)
    if len(statement.names) == 1 and _stands_alone(statement, parsed):
        lines = f"{newline}{parsed.indent(statement)}".join(f"import {module}" for module in modules)
        return parsed.edit(statement, lines)
    return parsed.edit(alias.name, ", ".join(modules))


def _rewrite_from(
    statement: cst.ImportFrom, bindings: Bindings, parsed: Parsed, names: Names, changes: Changes, newline: str
) -> None:
    module = dotted_name(statement.module)
    if statement.relative or module.partition(".")[0] not in OLD_PACKAGES:
        return
    if isinstance(statement.names, cst.ImportStar):
        changes.findings.append(
            parsed.finding(statement, f"from {module} import *: name what you use, and run this once more")
        )
        return
    assert statement.module is not None
    found = [_imported(alias, module, bindings, parsed, names, changes) for alias in statement.names]
    targets = {item.module for item in found}
    if len(targets) == 1:
        changes.edits.append(parsed.edit(statement.module, found[0].module))
        for alias, item in zip(statement.names, found, strict=True):
            if item.text != parsed.source(alias.name) + _as(alias, parsed):
                changes.edits.append(Edit(*_span_of_name(alias, parsed), item.text))
        return
    separator = f"{newline}{parsed.indent(statement)}" if _stands_alone(statement, parsed) else "; "
    changes.edits.append(parsed.edit(statement, split(statement, found, separator, newline)))


def _imported(
    alias: cst.ImportAlias, module: str, bindings: Bindings, parsed: Parsed, names: Names, changes: Changes
) -> Imported:
    """Say from where one name of a ``from`` import comes, and how it is written there."""
    name = dotted_name(alias.name)
    stays = Imported(module, name + _as(alias, parsed))
    binding = bindings.of(alias)
    if binding is not None and binding.undecided:
        return stays
    target = names.find(f"{module}.{name}")
    if target is None:
        changes.findings.append(parsed.finding(alias, f"{module}.{name} has no counterpart in Sealane"))
        return stays
    if target.name is None:
        package, _, last = target.module.rpartition(".")
        target = Target(package, last)
    assert target.name is not None
    bound = dotted_name(alias.asname.name) if alias.asname is not None else name
    keeps = alias.asname is not None or bound != target.name
    return Imported(target.module, f"{target.name} as {bound}" if keeps else target.name)


def _as(alias: cst.ImportAlias, parsed: Parsed) -> str:
    return "" if alias.asname is None else f" as {dotted_name(alias.asname.name)}"


def _span_of_name(alias: cst.ImportAlias, parsed: Parsed) -> tuple[int, int]:
    """Where a name and its ``as`` stand, without the comma."""
    start, end = parsed.span(alias.name)
    if alias.asname is not None:
        end = parsed.span(alias.asname.name)[1]
    return start, end


def _stands_alone(statement: cst.Import | cst.ImportFrom, parsed: Parsed) -> bool:
    """Tell whether a statement has its lines for itself: neither ``a; b`` nor ``if a: b``."""
    line = parsed.parent(statement)
    return isinstance(line, cst.SimpleStatementLine) and len(line.body) == 1
