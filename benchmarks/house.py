"""How large and how clear the package is, as one Markdown table; nothing is imported.

    python benchmarks/house.py [TREE] [--compare OTHER_TREE]

TREE is a checkout or its folder `softoverlap`, by default the one beside this script. With
`--compare` a second column holds the figures of the other tree.

- Public names are those of `softoverlap.__all__`, read from `__init__.pyi` or, in an older tree,
  from `_ROOMS`.
- Functions are all that begin with `def`, methods and nested ones included; parameters are counted
  without `self` and `cls`, keyword-only ones included, `*args` and `**kwargs` one each.
- A docstring line is repeated if it is longer than 25 characters and stood before in the package.
- Rooms are the packages in `softoverlap`, and in `softoverlap/app` where there is one. A module is
  imported past its room's door if a file outside the room names `softoverlap.ROOM.module`, be it
  only for types. It counts once for each room that does so.
"""

from __future__ import annotations

import argparse
import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MOST_PARAMETERS = 6
SHORT_LINE = 25
LONG_FILE = 350
NAME = "softoverlap"

Figures = dict[str, str]


@dataclass(frozen=True)
class Source:
    """A file of the package: its dotted name, whether it is a package, its text and its tree."""

    module: str
    package: bool
    lines: int
    tree: ast.Module


def measure(root: Path) -> Figures:
    """All figures of a tree, by what they count."""
    sources = _sources(root)
    if not sources:
        raise ValueError(f"{root} must hold the package {NAME}, found no Python file")
    counts = [count for source in sources for count in _parameters(source.tree)]
    share = sum(count > MOST_PARAMETERS for count in counts) / max(1, len(counts))
    many = sum(count > MOST_PARAMETERS for count in counts)
    repeated, told = _repeated(sources)
    lines = sum(source.lines for source in sources)
    longest = max(sources, key=lambda source: source.lines)
    tests = sum(_lines(path) for path in (_package(root).parent / "tests").rglob("*.py"))
    return {
        "public names": f"{_public_names(sources, _package(root))}",
        f"functions of more than {MOST_PARAMETERS} parameters": f"{many} ({share:.1%})",
        "most parameters of a function": f"{max(counts, default=0)}",
        "repeated docstring lines": f"{repeated / max(1, told):.1%}",
        "lines": f"{lines:,}",
        "files": f"{len(sources)}",
        "longest file, lines": f"{longest.lines} ({longest.module})",
        f"files of more than {LONG_FILE} lines": f"{sum(s.lines > LONG_FILE for s in sources)}",
        "modules imported past another room's door": f"{len(_past_doors(sources))}",
        "lines of tests": f"{tests:,}",
        "lines of tests a line of source": f"{tests / max(1, lines):.2f}",
    }


def past_doors(root: Path) -> list[tuple[str, str]]:
    """Which room imports which module past another room's `__init__`."""
    return sorted(_past_doors(_sources(root)))


def _sources(root: Path) -> list[Source]:
    package = _package(root)
    return [_source(path, package) for path in sorted(package.rglob("*.py"))]


def _package(root: Path) -> Path:
    return root / NAME if (root / NAME).is_dir() else root


def _source(path: Path, package: Path) -> Source:
    parts = path.relative_to(package).with_suffix("").parts
    is_package = parts[-1] == "__init__"
    module = ".".join([NAME, *(parts[:-1] if is_package else parts)])
    return Source(module, is_package, _lines(path), ast.parse(path.read_bytes(), str(path)))


def _lines(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def _public_names(sources: list[Source], package: Path) -> int:
    """Names in the stub, else in `_ROOMS`, else in a written-out `__all__`."""
    if (stub := package / "__init__.pyi").exists():
        nodes = ast.parse(stub.read_bytes()).body
        return sum(len(node.names) for node in nodes if isinstance(node, ast.ImportFrom))
    top = next((source for source in sources if source.module == NAME), None)
    values = {} if top is None else _assigned(top.tree)
    if isinstance(rooms := values.get("_ROOMS"), ast.Dict):
        return sum(len(ast.literal_eval(names)) for names in rooms.values)
    return len(ast.literal_eval(values["__all__"])) if "__all__" in values else 0


def _assigned(tree: ast.Module) -> dict[str, ast.expr]:
    found: dict[str, ast.expr] = {}
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        value = getattr(node, "value", None)
        if isinstance(node, ast.Assign | ast.AnnAssign) and value is not None:
            found |= {target.id: value for target in targets if isinstance(target, ast.Name)}
    return found


def _parameters(tree: ast.Module) -> Iterator[int]:
    """Number of parameters of each function."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            given = node.args
            names = [one.arg for one in (*given.posonlyargs, *given.args)]
            own = names[:1] in (["self"], ["cls"])
            more = [given.vararg, given.kwarg, *given.kwonlyargs]
            yield len(names) - own + sum(one is not None for one in more)


def _repeated(sources: list[Source]) -> tuple[int, int]:
    """Docstring lines seen before, and all of that length."""
    seen: set[str] = set()
    repeated = told = 0
    for line in (line for source in sources for line in _docstring_lines(source.tree)):
        told += 1
        repeated += line in seen
        seen.add(line)
    return repeated, told


def _docstring_lines(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (line.strip() for line in (ast.get_docstring(node) or "").splitlines())
            yield from (line for line in lines if len(line) > SHORT_LINE)


def _past_doors(sources: list[Source]) -> set[tuple[str, str]]:
    modules = {source.module for source in sources}
    rooms = {source.module for source in sources if source.package and _is_room(source.module)}
    return {
        (_room_of(source.module, rooms) or source.module, name)
        for source in sources
        for name in _imported(source, modules)
        if _room_of(name, rooms) not in (None, name, _room_of(source.module, rooms))
    }


def _is_room(module: str) -> bool:
    parts = module.split(".")
    return len(parts) == 2 or (len(parts) == 3 and parts[1] == "app")


def _room_of(module: str, rooms: set[str]) -> str | None:
    """The innermost room that the module belongs to; `app` itself is only a floor of rooms."""
    around = [room for room in rooms if module == room or module.startswith(f"{room}.")]
    room = max(around, key=len, default=None)
    return None if room == f"{NAME}.app" else room


def _imported(source: Source, modules: set[str]) -> Iterator[str]:
    """Modules of the package that a file imports, whole or from."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Import):
            yield from (one.name for one in node.names if one.name in modules)
        elif isinstance(node, ast.ImportFrom):
            base = _base(node, source)
            named = [f"{base}.{one.name}" for one in node.names]
            submodules = [name for name in named if name in modules]
            yield from submodules
            if base in modules and len(submodules) < len(named):
                yield base


def _base(node: ast.ImportFrom, source: Source) -> str:
    if not node.level:
        return node.module or ""
    parts = source.module.split(".")
    kept = parts[: len(parts) - node.level + source.package]
    return ".".join([*kept, *([node.module] if node.module else [])])


def table(columns: dict[str, Figures]) -> str:
    """The figures of trees side by side, as Markdown."""
    lines = [f"| | {' | '.join(columns)} |", "| --- |" + " ---: |" * len(columns)]
    for name in next(iter(columns.values())):
        cells = [figures[name] for figures in columns.values()]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("tree", nargs="?", type=Path, default=Path(__file__).parents[1])
    parser.add_argument("--compare", type=Path, metavar="OTHER_TREE")
    parser.add_argument("--past", action="store_true", help="also list what is imported past doors")
    options = parser.parse_args(arguments)
    columns = {"this tree": measure(options.tree)}
    if options.compare is not None:
        columns["other tree"] = measure(options.compare)
    print(table(columns))
    if options.past:
        print("", *(f"{room} imports {name}" for room, name in past_doors(options.tree)), sep="\n")


if __name__ == "__main__":
    sys.exit(main())
