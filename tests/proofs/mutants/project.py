"""The project's sources. Guards name symbols and tests, so that they survive a move of a file."""

import ast
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

PRODUCT = ("celeryconfig", "console", "gateway", "persistence", "tasks")
"""The modules and packages from which guards are removed."""


class DoesNotApplyError(Exception):
    """The sources have changed: what a guard names is missing, or is not unique."""


@dataclass(frozen=True)
class Part:
    """A part of a file: all of it, or the lines that define a symbol, decorators included."""

    file: str
    """Its path below the project's root."""
    symbol: str = ""
    start: int = 0
    end: int | None = None


class Project:
    """The sources below *root*, read once."""

    def __init__(self, root: Path) -> None:
        packages = (path for name in PRODUCT for path in (root / name).rglob("*"))
        self._root = root
        self._product = self._parts([*root.iterdir(), *packages])
        self._tests = self._parts((root / "tests").rglob("test_*.py"))

    def text(self, file: str) -> str:
        """Return the text of a file."""
        return (self._root / file).read_text("utf-8")

    def part(self, name: str) -> Part:
        """
        Return the part of the product with this name. Raises DoesNotApplyError unless there is exactly one.

        `Attempts.lock_live` is a symbol: a function, class, method, or a name that a module or class assigns.
        `connections:_LOCK` adds the end of the module's name, if several modules have the symbol.
        `crawler_order.sql` is a file, by the end of its path.
        """
        return _only(name, self._product)

    def test(self, name: str) -> str:
        """Return the node id of a test, which is named like a part of the product."""
        part = _only(name, self._tests)
        return "::".join([part.file, *part.symbol.split(".")] if part.symbol else [part.file])

    def _parts(self, paths: Iterable[Path]) -> dict[str, list[Part]]:
        """Return the parts of these files, by each of their names."""
        parts = defaultdict[str, list[Part]](list)
        for path in paths:
            if not path.is_file() or "__pycache__" in path.parts:
                continue
            place = path.relative_to(self._root)
            for name in _ends(place.parts, "/"):
                parts[name].append(Part(place.as_posix()))
            if path.suffix != ".py":
                continue
            modules = _ends([part for part in place.with_suffix("").parts if part != "__init__"], ".")
            for part in _definitions(place.as_posix(), self.text(place.as_posix())):
                for name in (part.symbol, *(f"{module}:{part.symbol}" for module in modules)):
                    parts[name].append(part)
        return parts


def _only(name: str, parts: dict[str, list[Part]]) -> Part:
    found = parts.get(name, [])
    if len(found) != 1:
        files = ", ".join(part.file for part in found)
        raise DoesNotApplyError(f"{name} is defined {len(found)} times, not once{files and f': {files}'}")
    return found[0]


def _ends(parts: Sequence[str], separator: str) -> list[str]:
    """`c`, `b/c` and `a/b/c` for `a/b/c`."""
    return [separator.join(parts[n:]) for n in range(len(parts))]


def _definitions(file: str, text: str) -> Iterator[Part]:
    """Yield the symbols that a file defines."""
    starts = [0, *accumulate(len(line) + 1 for line in text.split("\n"))]
    for symbol, node in _symbols(ast.parse(text, file)):
        first = min(each.lineno for each in [node, *getattr(node, "decorator_list", [])])
        yield Part(file, symbol, starts[first - 1], starts[node.end_lineno or node.lineno])


def _symbols(parent: ast.AST, prefix: str = "") -> Iterator[tuple[str, ast.stmt]]:
    """Yield the definitions outside functions, each with its qualified name."""
    for node in ast.iter_child_nodes(parent):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield prefix + node.name, node
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            yield from ((prefix + ast.unparse(target), node) for target in targets)
        if isinstance(node, ast.ClassDef):
            yield from _symbols(node, f"{prefix}{node.name}.")
        elif isinstance(node, ast.If | ast.Try):
            yield from _symbols(node, prefix)
