"""The floors of the house, read from the source of every file; docs/architecture.md describes them.

A room imports from floors below its own, and on its own floor only from rooms that do not import it back.
"""

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("orchestrator", "deploy", "trainables")

FLOORS = {
    "orchestrator.domain": 1,
    "deploy.bundle": 1,
    "trainables": 1,
    "orchestrator.search": 2,
    "orchestrator.schedulers": 2,
    "orchestrator.journal": 2,
    "orchestrator.study": 3,
    "orchestrator.tuning": 4,
    "deploy": 4,
    "orchestrator.process_graph": 4,
    "orchestrator.api": 5,
    "orchestrator.report": 5,
    "orchestrator.cli": 5,
    "orchestrator": 5,  # the façade of the whole
}

# rooms of one floor that do not see each other, in both directions
STRANGERS = (
    {"orchestrator.tuning", "deploy"},
    {"orchestrator.search", "orchestrator.schedulers"},
    {"orchestrator.search", "orchestrator.journal"},
    {"orchestrator.schedulers", "orchestrator.journal"},
)

# rooms that see less than their floor would let them
SEES_ONLY = {
    "orchestrator.domain": set(),
    "deploy.bundle": {"orchestrator.domain"},
    "trainables": {"orchestrator.domain", "deploy.bundle"},
}

RAY_ROOMS = {"orchestrator.tuning", "deploy", "orchestrator.process_graph"}

# what the process that answers requests, the study and the records never need
HEAVY = {"torch", "sklearn", "skl2onnx", "ray", "onnxscript"}
LIGHT_ROOMS = {"orchestrator.domain", "orchestrator.journal", "orchestrator.schedulers", "orchestrator.study"}


@dataclass(frozen=True)
class Import:
    """One module that another one imports, and how."""

    importer: str
    imported: str
    line: int
    is_for_types: bool  # under `if TYPE_CHECKING`
    is_in_function: bool

    def __str__(self) -> str:
        where = " in a function" if self.is_in_function else ""
        return f"{self.importer}:{self.line} imports {self.imported}{where}"


def room_of(module: str) -> str:
    """Returns the room of a module: the longest name in `FLOORS` that it begins with."""
    names = [name for name in FLOORS if module == name or module.startswith(f"{name}.")]
    room = max(names, key=len, default="")
    # modules directly under `orchestrator` would belong to no room
    return "" if room == "orchestrator" and module not in ("orchestrator", "orchestrator.__main__") else room


def is_ours(module: str) -> bool:
    return module.partition(".")[0] in PACKAGES


@cache
def modules() -> Mapping[str, Path]:
    """Returns the file of every module."""
    found = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def imports() -> tuple[Import, ...]:
    """Returns every import in every file of ours."""
    return tuple(found for module, path in modules().items() for found in _imports_of(module, path))


def _imports_of(module: str, path: Path) -> Iterator[Import]:
    def walk(node: ast.AST, for_types: bool, in_function: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import | ast.ImportFrom):
                for name in _names(child):
                    yield Import(module, name, child.lineno, for_types, in_function)
            elif isinstance(child, ast.Call) and (name := _loaded_by_name(child)):
                yield Import(module, name, child.lineno, for_types, in_function)
            elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
                yield from walk(child, True, in_function)
            else:
                inside = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
                yield from walk(child, for_types, in_function or inside)

    return walk(ast.parse(path.read_text()), False, False)


def _names(node: ast.Import | ast.ImportFrom) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    assert node.level == 0, "imports are absolute"
    base = node.module or ""
    # `from package import module` imports the module, not a name in the package
    return [f"{base}.{alias.name}" if f"{base}.{alias.name}" in modules() else base for alias in node.names]


def _loaded_by_name(call: ast.Call) -> str:
    """Returns what `import_module("…")` loads: an import all the same."""
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    first = call.args[0] if call.args else None
    return str(first.value) if name == "import_module" and isinstance(first, ast.Constant) else ""


def show(violations: list[Import]) -> str:
    return "\n".join(map(str, violations))


def test_every_module_belongs_to_a_room() -> None:
    homeless = [module for module in modules() if not room_of(module)]
    assert not homeless


def test_no_room_imports_from_a_floor_above_it() -> None:
    upward = [
        found
        for found in imports()
        if is_ours(found.imported)
        and not (room_of(found.importer) == "orchestrator" and found.importer == "orchestrator")
        and FLOORS[room_of(found.imported)] > FLOORS[room_of(found.importer)]
    ]
    assert not upward, show(upward)


def test_nobody_imports_the_facade_of_the_whole() -> None:
    """It stands above all rooms; a room that went through it would see everything."""
    through = [found for found in imports() if found.imported == "orchestrator"]
    assert not through, show(through)


@pytest.mark.parametrize("pair", STRANGERS, ids=lambda pair: " and ".join(sorted(pair)))
def test_strangers_of_one_floor_do_not_see_each_other(pair: set[str]) -> None:
    seen = [
        found
        for found in imports()
        if is_ours(found.imported) and {room_of(found.importer), room_of(found.imported)} == pair
    ]
    assert not seen, show(seen)


@pytest.mark.parametrize("room", SEES_ONLY)
def test_the_ground_floor_sees_only_the_words(room: str) -> None:
    seen = [
        found
        for found in imports()
        if room_of(found.importer) == room
        and is_ours(found.imported)
        and room_of(found.imported) not in SEES_ONLY[room] | {room}
    ]
    assert not seen, show(seen)


def test_rooms_form_no_cycle() -> None:
    graph: dict[str, set[str]] = {room: set() for room in FLOORS}
    for found in imports():
        if is_ours(found.imported) and room_of(found.imported) != room_of(found.importer):
            graph[room_of(found.importer)].add(room_of(found.imported))
    _assert_acyclic(graph)


def test_modules_form_no_cycle() -> None:
    """Within a room too. Façades import their modules; a module that imports its own façade would close a circle."""
    graph: dict[str, set[str]] = {module: set() for module in modules()}
    for found in imports():
        if is_ours(found.imported) and not found.is_for_types and found.imported != found.importer:
            graph[found.importer].add(found.imported)
    _assert_acyclic(graph)


def _assert_acyclic(graph: Mapping[str, set[str]]) -> None:
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"a circle of imports: {' <- '.join(error.args[1])}")


def test_only_facades_import_for_types_alone() -> None:
    hidden = [
        found
        for found in imports()
        if found.is_for_types and is_ours(found.imported) and modules()[found.importer].name != "__init__.py"
    ]
    assert not hidden, show(hidden)


def test_only_the_ray_rooms_import_ray() -> None:
    strangers = [
        found
        for found in imports()
        if found.imported.partition(".")[0] == "ray" and room_of(found.importer) not in RAY_ROOMS
    ]
    assert not strangers, show(strangers)


def test_rooms_that_everybody_needs_import_nothing_heavy() -> None:
    heavy = [
        found
        for found in imports()
        if room_of(found.importer) in LIGHT_ROOMS and found.imported.partition(".")[0] in HEAVY
    ]
    assert not heavy, show(heavy)


def test_the_words_need_nothing_but_the_standard_library() -> None:
    import sys

    foreign = [
        found
        for found in imports()
        if room_of(found.importer) == "orchestrator.domain"
        and not is_ours(found.imported)
        and found.imported.partition(".")[0] not in sys.stdlib_module_names
    ]
    assert not foreign, show(foreign)
