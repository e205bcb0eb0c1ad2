"""Types of ids: ULIDs as text."""

from typing import NewType

from persistence.schema.commands import JIRA

AccountId = NewType("AccountId", str)
ConnectionId = NewType("ConnectionId", str)
CrawlerJobId = NewType("CrawlerJobId", str)
"""The fence: it names one attempt of one job, and crawlers repeat it as `jobId`."""
EntryId = NewType("EntryId", str)
JobId = NewType("JobId", str)


def global_id(noun: str, id_: str) -> str:
    """GitLab's global id: 42 of a project is gid://gitlab/Project/42. An id that is not a number is global already."""
    return f"gid://gitlab/{noun.capitalize()}/{id_}" if id_.isascii() and id_.isdecimal() else id_


def area_id(provider: str | None, noun: str, id_: str) -> str:
    """The id as areas have it: GitLab's global id, or Jira's own id as it is."""
    if provider not in JIRA:
        return global_id(noun, id_)
    return id_.removeprefix(f"gid://gitlab/{noun.capitalize()}/")  # which earlier versions wrote
