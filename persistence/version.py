"""The version of Crawlyard."""

from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as version_of


def version() -> str:
    """Return the installed version, or `unknown` for a folder that was never installed."""
    try:
        return version_of("crawlyard")
    except PackageNotFoundError:
        return "unknown"
