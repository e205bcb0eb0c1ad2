"""An account with tokens of a GitLab, as far as a test needs it."""

from dataclasses import dataclass
from typing import Any

from console.simulator.gitlab import GitLab
from support.worlds.world import Crawler, World


@dataclass(frozen=True)
class Tokens:
    """What happens to the tokens of the account `acc`, and to its jobs."""

    world: World
    gitlab: GitLab

    def authorize(self, account: str = "acc") -> None:
        """Give the account a pair that works."""
        access, refresh = self.gitlab.authorize()
        self.world.rows(
            "UPDATE account SET access_token = :access, refresh_token = :refresh,"
            " access_token_expires_at = now() + interval '2 hours' WHERE id = :id",
            access=access, refresh=refresh, id=account,
        )  # fmt: skip

    def at_work(self, jobs: int = 1, account: str = "acc") -> tuple[Crawler, list[str]]:
        """A crawler at work on new jobs of the account at this GitLab."""
        orders = (
            self.world.order(account_id=account, gitlab_host=self.gitlab.url, command="issues")
            for _ in range(jobs)
        )
        self.world.submit(*orders)
        crawler = self.world.crawler(capacity=jobs)
        self.world.assign()
        return crawler, crawler.orders()

    def die(self) -> None:
        """The account's token dies in its crawler's hands, and one job waits for a new one."""
        crawler, (order,) = self.at_work()
        self.gitlab.expire()
        crawler.sends("token_refresh_request", order)

    def wait_for_gitlab(self) -> None:
        """Half a reconcile interval passes, after which a GitLab that was away is asked again."""
        self.world.rows("UPDATE periodic_ring SET rung_at = rung_at - interval '16 seconds'")

    def works(self, account: str = "acc") -> bool:
        """Whether the account's token is accepted."""
        return self.gitlab.accepts(
            self.world.scalar("SELECT access_token FROM account WHERE id = :id", id=account)
        )

    def refresh(self, account: str = "acc") -> None:
        """Deliver the task."""
        self.world.deliver("credentials.refresh", account_id=account)

    def account_queue(self, account: str = "acc") -> Any:
        """The account's lane."""
        return self.world.row("SELECT * FROM account_lane WHERE account_id = :id", id=account)

    def needed(self) -> list[tuple[str, str]]:
        """Error type and severity of each time that somebody was asked."""
        return [
            (e.payload["error_type"], e.payload["severity"]) for e in self.world.events("credential_needed")
        ]

    def statuses(self) -> list[str]:
        """Of all jobs."""
        return [status for (status,) in self.world.rows("SELECT status FROM job ORDER BY id")]
