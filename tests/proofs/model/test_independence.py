"""The model is written from docs/contract.md alone, so it cannot share a misreading with the code."""

import ast
import re
from pathlib import Path

import pytest

MODEL = sorted(
    path for path in Path(__file__).parent.glob("*.py") if not path.name.startswith(("test_", "__"))
)
CONTRACT = (Path(__file__).parents[3] / "docs" / "contract.md").read_text("utf-8")
ALLOWED = {"collections", "dataclasses", "enum", "json", "proofs", "typing"}


def imports(path: Path) -> list[str]:
    """Return the names of all modules that a module imports."""
    names = []
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names.append(node.module or ".")
    return names


def quotations(path: Path) -> list[str]:
    """Return what the docstrings of a module quote, in parts if something is left out."""
    tree = ast.parse(path.read_text("utf-8"))
    texts = [
        ast.get_docstring(node) or ""
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
    ]
    quoted = [quote for text in texts for quote in re.findall(r'"([^"]+)"', text.replace("\n", " "))]
    return [part for quote in quoted for part in quote.split("…")]


def plain(text: str) -> str:
    """Return a text without marks of Markdown, case and line breaks."""
    return " ".join(re.sub(r"[`*]", "", text).split()).lower().strip(" .,;")


@pytest.mark.parametrize("path", MODEL, ids=lambda path: path.stem)
def test_the_model_imports_neither_the_product_nor_the_machine_that_drives_it(path: Path) -> None:
    """It imports only itself and a few modules of the standard library."""
    assert {name.split(".")[0] for name in imports(path)} <= ALLOWED
    assert [name for name in imports(path) if name.startswith("proofs.model.machine")] == []


def test_the_model_quotes_the_contract_verbatim() -> None:
    """A rule that the contract no longer states in these words has to be read again."""
    contract = plain(CONTRACT)
    quoted = [(path.name, plain(quote)) for path in MODEL for quote in quotations(path)]

    assert len(quoted) > 40
    assert [(name, quote) for name, quote in quoted if quote not in contract] == []
