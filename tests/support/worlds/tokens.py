"""An account with tokens of a simulated GitLab."""

from dataclasses import dataclass
from typing import Any

from console.simulator.gitlab import GitLab
from support.worlds.world import Crawler, World


@dataclass(frozen=True)
class Tokens:
    """The tokens of the account `acc`, and its jobs."""

    world: World
    gitlab: GitLab

    def authorize(self, account: str = "acc") -> None:
        """Give the account tokens that the GitLab accepts."""
        access, refresh = self.gitlab.authorize()
        self.world.rows(
            "UPDATE account SET access_token = :access, refresh_token = :refresh,"
            " access_token_expires_at = now() + interval '2 hours' WHERE id = :id",
            access=access, refresh=refresh, id=account,
        )  # fmt: skip

    def at_work(self, jobs: int = 1, account: str = "acc") -> tuple[Crawler, list[str]]:
        """A crawler that runs new jobs of the account at this GitLab, and its orders."""
        orders = (
            self.world.order(account_id=account, gitlab_host=self.gitlab.url, command="issues")
            for _ in range(jobs)
        )
        self.world.submit(*orders)
        crawler = self.world.crawler(capacity=jobs)
        self.world.assign()
        return crawler, crawler.orders()

    def outlive(self, account: str = "acc") -> None:
        """Let the account's token pass its expiry, so that it is known to be dead."""
        self.world.rows(
            "UPDATE account SET access_token_expires_at = now() - interval '1 second' WHERE id = :id",
            id=account,
        )

    def die(self, jobs: int = 1) -> None:
        """Let the account's token expire while *jobs* jobs are running; all of them wait for a new one."""
        crawler, orders = self.at_work(jobs)
        self.gitlab.expire()
        self.outlive()
        self.world.sends(*(crawler.frame("token_refresh_request", order) for order in orders))

    def wait_for_gitlab(self) -> None:
        """Let half a reconcile interval pass, after which an unavailable GitLab is called again."""
        self.world.rows("UPDATE periodic_ring SET rung_at = rung_at - interval '16 seconds'")

    def works(self, account: str = "acc") -> bool:
        """True if the GitLab accepts the account's access token."""
        return self.gitlab.accepts(
            self.world.scalar("SELECT access_token FROM account WHERE id = :id", id=account)
        )

    def refresh(self, account: str = "acc") -> None:
        """Deliver `credentials.refresh`."""
        self.world.deliver("credentials.refresh", account_id=account)

    def account_queue(self, account: str = "acc") -> Any:
        """The account's row in `account_lane`."""
        return self.world.row("SELECT * FROM account_lane WHERE account_id = :id", id=account)

    def needed(self) -> list[tuple[str, str]]:
        """Error type and severity of each event `credential_needed`."""
        return [
            (e.payload["error_type"], e.payload["severity"]) for e in self.world.events("credential_needed")
        ]

    def statuses(self) -> list[str]:
        """The statuses of all jobs, in id order."""
        return [status for (status,) in self.world.rows("SELECT status FROM job ORDER BY id")]
