"""A crawler that runs a discovery, and the entities that it finds."""

from dataclasses import dataclass
from typing import Any

from support.worlds.world import NOW, Crawler, World

GROUP_COMMANDS = ("group", "groupMembers", "groupProjects", "groupIssues")
PROJECT_COMMANDS = ("project", "issues", "mergeRequests", "branches", "pipelines")


def group(path: str, id_: int, **changes: Any) -> dict[str, Any]:
    """A group, as an item of jobs_discovered."""
    return _found("crawl_group", path, id_) | changes


def project(path: str, id_: int, **changes: Any) -> dict[str, Any]:
    """A project, as an item of jobs_discovered."""
    return _found("crawl_project", path, id_) | changes


def user(path: str, id_: int) -> dict[str, Any]:
    """A user, as an item of jobs_discovered."""
    return _found("crawl_user", path, id_)


def _found(job_type: str, path: str, id_: int) -> dict[str, Any]:
    name = path.rpartition("/")[2]
    return {"job_type": job_type, "entity_id": str(id_), "namespace_path": path, "entity_name": name}


@dataclass(frozen=True)
class Discoverer:
    """A crawler and its order of a discovery."""

    world: World
    crawler: Crawler
    order: str
    job_id: str

    @classmethod
    def at_work(
        cls,
        world: World,
        account: str = "acc",
        host: str = "gitlab.example.org",
        path: str | None = None,
    ) -> "Discoverer":
        """Assign the discovery of everything that the account sees on this host, or below *path*, to a new crawler."""
        job = world.order(
            account_id=account, command="GROUP_PROJECT_DISCOVERY", namespace_path=path, gitlab_host=host
        )
        (job_id,) = world.submit(job)
        crawler = world.crawler(capacity=1)
        world.assign()
        (order,) = crawler.orders()
        return cls(world, crawler, order, job_id)

    def frame(self, *found: Any, at: str = NOW, summary: dict[str, int] | None = None) -> dict[str, Any]:
        """A frame with these entities."""
        frame = self.crawler.frame(
            "jobs_discovered", self.order, discovered_jobs=list(found), discovery_summary=summary or {}
        )
        frame["frame"]["timestamp"] = at
        return frame

    def finds(self, *found: Any, at: str = NOW, summary: dict[str, int] | None = None) -> None:
        """Send a frame with these entities in a message of its own."""
        self.world.sends(self.frame(*found, at=at, summary=summary))

    def sends(self, kind: str, **data: Any) -> None:
        """Send one frame about the order."""
        self.crawler.sends(kind, self.order, **data)

    def attempt(self) -> Any:
        """The attempt's row."""
        return self.world.row(
            "SELECT * FROM job_assignment_mapping WHERE crawler_job_id = :order", order=self.order
        )
