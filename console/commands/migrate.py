"""`crawlyard migrate` and `crawlyard adopt`: upgrade the schema, and release the jobs of an older database."""

import sys

import click

from console.output import screen
from console.output.screen import counted, plain
from persistence.maintenance.adoption import UnadoptedJobs, adopt, read_unadopted_jobs
from persistence.migrations.run import migrate
from persistence.reports.origins import UnboundAccounts, unbound_accounts
from persistence.schema.reasons import WhyUnbound
from persistence.schema.states import JOB_CRAWLABLE
from persistence.settings import settings
from tasks.maintenance.duplicate_paths import (
    DuplicatePaths,
    count_duplicate_paths,
    join_duplicate_paths,
)
from tasks.maintenance.gitlab_names import Carried, carry_names

_LISTED_ACCOUNTS = 20

_WHY_UNBOUND = {
    WhyUnbound.NO_JOB: "no job names a GitLab",
    WhyUnbound.JOBS_DISAGREE: "its jobs name several GitLabs",
    WhyUnbound.HOST_UNPARSABLE: "a job's URL cannot be read",
}


def show_migration(*, as_json: bool) -> None:
    """
    Migrate, and join what is there twice; print the revisions, what is joined, is unbound, and is left alone.

    What is to be joined is printed before that is done.
    """
    settings()
    migrated = migrate()
    if not as_json:
        click.echo(_result_text(migrated.before, migrated.after))
    twofold = count_duplicate_paths()
    if not as_json and (twofold.areas or twofold.jobs):
        click.echo(_twofold_text(twofold))
    carried = carry_names()
    if not as_json and any(vars(carried).values()):
        click.echo(_carried_text(carried))
    join_duplicate_paths()
    found = read_unadopted_jobs()
    unbound = unbound_accounts(_LISTED_ACCOUNTS) if migrated.has_bound_accounts else None
    if as_json:
        screen.print_json(
            {
                "from": migrated.before,
                "to": migrated.after,
                "duplicate_paths": twofold,
                "renamed_gitlabs": carried,
                "left_alone": found,
                "unbound": unbound,
            }
        )
        return
    if unbound and unbound.count:
        click.echo(_unbound_text(unbound))
    if found.adopted_from is not None:
        click.echo(_description(found))
        click.echo("Crawlyard leaves them alone. Run `crawlyard adopt` to release them.")


def show_adoption(*, yes: bool, as_json: bool) -> None:
    """Print which jobs would be released, and release them with *yes* or after a confirmation at a terminal."""
    settings()
    found = read_unadopted_jobs()
    if not as_json:
        click.echo(_description(found))
    is_confirmed = found.adopted_from is not None and (yes or (not as_json and _confirmed()))
    if is_confirmed:
        found = adopt()
    if as_json:
        screen.print_json({"adopted": is_confirmed, "left_alone": found})
    elif is_confirmed:
        click.echo("Released. The next run of reconcile queues them.")
    elif found.adopted_from is not None:
        click.echo("Nothing was changed. Pass --yes to release them.")


def _result_text(before: str | None, after: str) -> str:
    if before == after:
        return f"The database is up to date, at revision {after}."
    return (
        f"The database was migrated from {f'revision {before}' if before else 'nothing'} to revision {after}."
    )


def _twofold_text(twofold: DuplicatePaths) -> str:
    return (
        f"Paths that differ in case alone are one path. Joining with another one: {counted(twofold.areas, 'area')}, "
        f"{counted(twofold.jobs, 'job')}. Cancelling (duplicate_path), since not ended: "
        f"{counted(twofold.to_cancel, 'job')}."
    )


def _carried_text(carried: Carried) -> str:
    return (
        "A GitLab has one name, whatever the spelling of its URL. These have it now: "
        f"{counted(carried.accounts, 'account')}, {counted(carried.jobs, 'job')}, {counted(carried.areas, 'area')}."
    ) + (
        f" Cancelled (duplicate_url), since another job is the same: {counted(carried.cancelled, 'job')}."
        if carried.cancelled
        else ""
    )


def _unbound_text(unbound: UnboundAccounts) -> str:
    width = max(len(plain(account.account_id)) for account in unbound.first)
    lines = [
        f"{counted(unbound.count, 'account')} {'is' if unbound.count == 1 else 'are'} bound to no GitLab:"
    ]
    lines += [f"  {plain(one.account_id):<{width}}  {_WHY_UNBOUND[one.why]}" for one in unbound.first]
    if more := unbound.count - len(unbound.first):
        lines.append(f"  … and {more:,} more")
    lines.append(
        "Their provider or their next job binds them, and jobs that name another GitLab are held. To decide it "
        "yourself, run `crawlyard accounts bind URL --account ID`."
    )
    return "\n".join(lines)


def _description(found: UnadoptedJobs) -> str:
    if found.adopted_from is None:
        return "Nothing to adopt: every job is managed by Crawlyard."
    crawlable = sum(found.jobs.get(status, 0) for status in JOB_CRAWLABLE)
    counts = [f"  {status:<28}{count:>12,}" for status, count in found.jobs.items()]
    return "\n".join(
        [
            f"Jobs created up to {found.adopted_from:%Y-%m-%d %H:%M:%S %Z}:",
            *(counts or ["  none"]),
            f"Still to be crawled: {counted(crawlable, 'job')}.",
            f"Entries parked in the queue of an older component: {found.held_entries:,}.",
        ]
    )


def _confirmed() -> bool:
    return sys.stdin.isatty() and click.confirm("Release them?")
