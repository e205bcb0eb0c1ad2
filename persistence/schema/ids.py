"""Types of ids: ULIDs as text."""

from typing import NewType

AccountId = NewType("AccountId", str)
ConnectionId = NewType("ConnectionId", str)
CrawlerJobId = NewType("CrawlerJobId", str)
"""The fence: names one attempt of one job, and is what a crawler echoes as `jobId`."""
EntryId = NewType("EntryId", str)
JobId = NewType("JobId", str)


def global_id(noun: str, id_: str) -> str:
    """GitLab's global id: `42` of a project is gid://gitlab/Project/42; what is no number is one already."""
    return f"gid://gitlab/{noun.capitalize()}/{id_}" if id_.isdecimal() else id_
