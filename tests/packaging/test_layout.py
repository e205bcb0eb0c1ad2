"""The layout of the source: small folders, and no SQL built from strings."""

from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[2]
PRODUCT = ["persistence", "tasks", "gateway", "console"]
MAX_MODULES = 12

LARGE_FOLDERS = {Path("console/commands"), Path("persistence/migrations/versions")}
"""One file per noun of the command, and one per revision of the schema."""


def modules(*folders: str) -> list[Path]:
    """Every Python module in these folders, relative to the root."""
    return [path.relative_to(ROOT) for folder in folders for path in (ROOT / folder).rglob("*.py")]


def test_no_folder_has_more_than_twelve_modules() -> None:
    """A folder with more than twelve modules, not counting __init__.py, is several areas in one."""
    found = modules(*PRODUCT, "tests", "benchmarks")
    sizes = Counter(path.parent for path in found if path.name != "__init__.py")

    assert {folder for folder, size in sizes.items() if size > MAX_MODULES} == LARGE_FOLDERS


def test_statements_are_not_built_from_strings() -> None:
    """The linter finds a statement that is built from strings, unless a comment silences it."""
    silenced = [str(path) for path in modules(*PRODUCT) if "S608" in (ROOT / path).read_text("utf-8")]

    assert silenced == []
