"""Claim: the house is in order: no import circles, none against their direction, no long files, no crowded folders.

Imports inside functions count; those for type checkers are listed apart. Lines are those of Python outside of tests.
`python -m benchmarks.house` exits with 1 if something is out of order.
"""

import ast
import json
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from graphlib import CycleError, TopologicalSorter
from importlib.util import resolve_name
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

ROWS = "repmlp", "spaces", "record", "search results", "deploy", "run_search analyze", "examples benchmarks"
FLOORS = {name: floor for floor, names in enumerate(ROWS) for name in names.split()}
"""Packages and commands import their own modules and those of lower floors."""
LINES, MODULES = 350, 15
"""The most that a file and a folder hold."""
RAY = "search.backends.ray", "benchmarks."  # the beginnings of modules that may import it


class Import(NamedTuple):
    """Of a module or, by its first word, of a package from elsewhere; `typed` if only type checkers read it."""

    source: str
    target: str
    typed: bool


def modules(root: Path) -> dict[str, Path]:
    """Return the files of all packages and commands by the name of their module."""
    files = [f for name in FLOORS for f in (*root.glob(f"{name}.py"), *root.glob(f"{name}/**/*.py"))]
    parts = {file: file.relative_to(root).with_suffix("").parts for file in sorted(files)}
    return {".".join(p[:-1] if p[-1] == "__init__" else p): file for file, p in parts.items()}


def imports(root: Path) -> list[Import]:
    """Return every import of another module, once."""
    found: dict[tuple[str, str], bool] = {}
    known = modules(root)
    for source, file in known.items():
        package = source if file.name == "__init__.py" else source.rpartition(".")[0]
        for name, typed in imported(ast.parse(file.read_text()).body, package):
            target = next((n for n in (name, name.rpartition(".")[0]) if n in known), name.partition(".")[0])
            if target != source:
                found[source, target] = typed and found.get((source, target), True)
    return [Import(source, target, typed) for (source, target), typed in found.items()]


def imported(nodes: Iterable[ast.AST], package: str, typed: bool = False) -> Iterator[tuple[str, bool]]:
    """Yield each name that is imported, however deep, and whether below `if TYPE_CHECKING`."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from ((alias.name, typed) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = resolve_name("." * node.level + (node.module or ""), package)
            yield from ((f"{base}.{alias.name}", typed) for alias in node.names)
        elif isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            yield from imported(node.body, package, True)
            yield from imported(node.orelse, package, typed)
        else:
            yield from imported(ast.iter_child_nodes(node), package, typed)


def circles(found: Iterable[Import]) -> list[list[str]]:
    """Return circles of imports, as many as must be cut to have none, each as modules of which one imports the next."""
    graph = defaultdict(list)
    for source, target, _ in found:
        graph[source].append(target)
    closed: list[list[str]] = []
    while True:
        try:
            TopologicalSorter(graph).prepare()
            return closed
        except CycleError as error:
            closed.append(error.args[1][::-1])
            graph[closed[-1][0]].remove(closed[-1][1])


def against(found: Iterable[Import]) -> list[Import]:
    """Return the imports of what is on no lower floor."""
    tops = ((i, i.source.partition(".")[0], i.target.partition(".")[0]) for i in found)
    return [i for i, here, there in tops if here != there and FLOORS.get(there, -1) >= FLOORS[here]]


def survey(root: Path) -> dict[str, object]:
    """Return all counts, and all that is out of order, by name."""
    found = imports(root)
    lines = {str(file.relative_to(root)): len(file.read_text().splitlines()) for file in modules(root).values()}
    folders = {str(Path(file).parent): 0 for file in sorted(lines)}
    for file, count in lines.items():
        folders[str(Path(file).parent)] += count
    counted = (f for f in (*modules(root).values(), *root.glob("tests/**/*.py")) if f.name != "__init__.py")
    full = Counter(str(f.parent.relative_to(root)) for f in counted)
    return {
        "lines": sum(lines.values()),
        "folders": folders,
        "long": {file: count for file, count in lines.items() if count > LINES},
        "crowded": {folder: count for folder, count in full.items() if count > MODULES},
        "circles": circles(i for i in found if not i.typed),
        "circles_of_types": [c for c in circles(found) if {i[:2] for i in found if i.typed} & set(pairwise(c))],
        "against": [f"{i.source} -> {i.target}" for i in against(found) if not i.typed],
        "against_for_types": [f"{i.source} -> {i.target}" for i in against(found) if i.typed],
        "ray": [i.source for i in found if i.target == "ray" and not i.source.startswith(RAY)],
    }


def main(root: Path = Path(__file__).parents[1]) -> None:
    figures = survey(root)
    print(*(f"{name}: {value}" for name, value in figures.items()), json.dumps(figures), sep="\n")
    sys.exit(any(value for name, value in figures.items() if name not in ("lines", "folders")))


if __name__ == "__main__":
    main()
