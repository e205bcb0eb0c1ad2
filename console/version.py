"""Which version of Crawlyard this is."""

from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as version_of


def version() -> str:
    """The installed version; `unknown` where we run from a folder that was never installed."""
    try:
        return version_of("crawlyard")
    except PackageNotFoundError:
        return "unknown"
