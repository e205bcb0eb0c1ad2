"""Actions of the machine's web app: orders, commands, job rows and statuses that it writes itself."""

from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

from proofs.model.machine.actions import action
from proofs.model.machine.crawlers import PICK
from proofs.model.machine.delivery import ACCOUNTS, DeliveryMachine
from proofs.model.state import AUTHORIZATION_SCOPE, Account, Job

PICKS = st.lists(PICK, min_size=1, max_size=3)

_COMMANDS = ("project", "group", "GROUP_PROJECT_DISCOVERY")
_PATHS = 4

_SENSIBLE: dict[str, Callable[[Job], object]] = {
    "cancel": lambda job: job.live,
    "pause": lambda job: job.live,
    "resume": lambda job: job.status == "paused",
    "retry": lambda job: job.status == "failed",
    "prioritize": lambda job: job.entry and job.entry.is_open,
}
"""The jobs for which a command has an effect."""

_STATUSES = ("queued", "queued", "paused", "cancelled", "finished", "failed", "credential_renewed")


class WebApp(DeliveryMachine):
    """Actions of the web app."""

    @action(weight=4, picks=PICKS, how=st.integers(0, 7))
    def submit_orders(self, picks: list[int], how: int) -> None:
        """Order some of a dozen jobs, new or not, each under one of two ids; rarely for an unknown account."""
        flags = {"force": how in (1, 2, 3), "resume": how in (3, 4)}
        orders = [_order(pick) | flags for pick in picks]
        if how % 2 and (job := self.focus) and job.path and job.command in _COMMANDS:
            orders[0] |= {"command": job.command, "namespace_path": job.path, "web_app_job_id": job.id}
        self.send("jobs.submit", orders=orders)

    @action(weight=1, pick=PICK, is_enqueued=st.booleans())
    def insert_random_job(self, pick: int, *, is_enqueued: bool) -> None:
        """Insert a job, and enqueue it or not."""
        account = self.model.accounts[ACCOUNTS[pick % 2]]
        job = self.insert(f"own-{self.number()}", account, "project", f"own/{self.number()}")
        if is_enqueued:
            self.send("jobs.enqueue", job_ids=[job.id])

    def insert(self, id_: str, account: Account, command: str, path: str | None) -> Job:
        """Insert a job row."""
        self.system.write(
            'INSERT INTO job (id, "accountId", command, full_path, "gitlabGraphQLUrl")'
            " VALUES (%s, %s, %s, %s, 'https://gitlab.example.org/api/graphql')",
            *(id_, account.id, command, path),
        )
        job = self.model.jobs[id_] = Job(id_, account, command, path)
        self.compare()
        return job

    def insert_scope_jobs(self) -> None:
        """Insert authorizationScope jobs, which nothing may change."""
        for account in self.model.accounts.values():
            self.insert(f"scope-{account.id}", account, AUTHORIZATION_SCOPE, None)

    @action(weight=2, needs=lambda self: self.model.jobs, picks=PICKS)
    def enqueue_jobs(self, picks: list[int]) -> None:
        """Enqueue jobs in any status, and one that does not exist."""
        self.send("jobs.enqueue", job_ids=[*(self.job(pick).id for pick in picks), "unknown-job"])

    @action(weight=4, needs=lambda self: self.model.jobs, pick=PICK, status=st.sampled_from(_STATUSES))
    def change_status(self, pick: int, status: str) -> None:
        """Write job.status without a message."""
        self.set_job_status(self.job(pick, lambda job: job.live), status)

    def set_job_status(self, job: Job, status: str) -> None:
        """Write a job's status."""
        self.system.write(
            "UPDATE job SET status = %s, finished_at = CASE WHEN %s THEN clock_timestamp() ELSE finished_at END"
            " WHERE id = %s",
            *(status, status == "finished", job.id),
        )
        job.status = status
        job.finished_at = self.model.now if status == "finished" else job.finished_at
        self.compare()

    @action(
        weight=6,
        needs=lambda self: self.model.jobs,
        kind=st.sampled_from(["cancel", "pause", "resume", "retry", "prioritize"]),
        picks=PICKS,
    )
    def send_command(self, kind: str, picks: list[int]) -> None:
        """Send a command over some jobs."""
        priority = {"priority": picks[0] % 4} if kind == "prioritize" else {}
        ids = [self.job(pick, _SENSIBLE[kind]).id for pick in picks]
        self.send(f"jobs.{kind}", job_ids=ids, **priority)

    @action(weight=2, kind=st.sampled_from(["cancel", "pause", "resume", "resume", "retry"]), pick=PICK)
    def send_account_command(self, kind: str, pick: int) -> None:
        """Send a command over all jobs of an account."""
        self.send(f"jobs.{kind}", account_id=_account(pick))

    @action(
        weight=3, kind=st.sampled_from(["renewed", "renewed", "refresh"]), pick=PICK, writes=st.booleans()
    )
    def write_tokens(self, kind: str, pick: int, *, writes: bool) -> None:
        """Write a new token or not; then publish credentials.renewed or credentials.refresh."""
        id_ = _account(pick)
        if writes and (account := self.model.accounts.get(id_)):
            account.token = self.number()
            self.system.write(
                "UPDATE account SET access_token = %s WHERE id = %s", f"token-{account.token}", id_
            )
        self.send(f"credentials.{kind}", account_id=id_)

    @action(weight=1, needs=lambda self: self.model.jobs, pick=PICK)
    def log_error(self, pick: int) -> None:
        """Log an error of a job that exists or not."""
        job_id = self.job(pick).id if pick % 4 else "unknown-job"
        error = {"job_id": job_id, "error_type": "Elsewhere", "error_message": "it broke"}
        self.send("failures.log", errors=[error])


def _account(pick: int) -> str:
    return "unknown-account" if pick % 16 == 1 else ACCOUNTS[pick % 2]


def _order(pick: int) -> dict[str, Any]:
    number, twin = pick % (_PATHS * len(_COMMANDS)), pick % 5 == 1
    return {
        "account_id": _account(pick),
        "provider": "gitlab-cloud",
        "gitlab_host": "gitlab.example.org",
        "command": _COMMANDS[number // _PATHS],
        "namespace_path": f"group-{number % _PATHS}",
        "web_app_job_id": f"twin-{number}" if twin else f"job-{number}",
        "priority": pick % 3,
    }
