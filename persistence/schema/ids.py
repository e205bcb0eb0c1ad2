"""Types of ids: ULIDs as text."""

from typing import NewType

AccountId = NewType("AccountId", str)
ConnectionId = NewType("ConnectionId", str)
CrawlerJobId = NewType("CrawlerJobId", str)
"""The fence: names one attempt of one job, and is what a crawler echoes as `jobId`."""
EntryId = NewType("EntryId", str)
JobId = NewType("JobId", str)
