"""The `crawlyard` command line: the commands and their options. What each one does is in console/commands."""
# ruff: noqa: PLC0415 - a command imports what it needs in its body, so that --help prints without delay

import sys
from pathlib import Path
from typing import Any

import click

from console.commands.accounts import accounts
from console.commands.areas import areas
from console.commands.crawlers import crawlers
from console.commands.errors import errors
from console.commands.gitlab import gitlab
from console.commands.jobs import jobs
from console.commands.rejected import rejected
from console.module_path import leave_current_directory
from console.options import as_json
from console.output.encoding import never_fail, read_arguments
from console.output.exit_codes import ended
from console.sections import Sections

RUN, LOOK, CHANGE, SET_UP = "Run", "Look", "Change", "Set up"
QUEUES = "crawler,dispatch,upkeep"
LEVELS = ("debug", "info", "warning", "error", "critical")

loglevel = click.option(
    "--loglevel", type=click.Choice(LEVELS, case_sensitive=False), default="info", show_default=True,
    help="Lowest level that is logged, on standard error.",
)  # fmt: skip


def main() -> None:
    """Run the command and exit with its code."""
    leave_current_directory()
    never_fail()
    read_arguments()
    sys.exit(ended(lambda: crawlyard(prog_name="crawlyard", standalone_mode=False)))


def _print_version(ctx: click.Context, _parameter: click.Parameter, value: bool) -> None:  # noqa: FBT001 - click's
    if value:
        from persistence.version import version

        click.echo(f"crawlyard {version()}")
        ctx.exit()


@click.group(
    cls=Sections,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Settings are environment variables: DATABASE_URL, BROKER_URL and CRAWLYARD_…; "
    "`crawlyard doctor` lists them all.",
)
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_print_version,
    help="Print the version.",
)  # fmt: skip
def crawlyard() -> None:
    """Dispatch jobs to a fleet of crawlers, track its heartbeats and record every failure."""


@crawlyard.under(RUN)
@click.command()
@click.option("--queues", default=QUEUES, show_default=True, help="Queues to consume, separated by commas.")
@click.option("--concurrency", type=click.IntRange(1), show_default="one per CPU",
              help="Number of tasks that run at the same time.")  # fmt: skip
@click.option("--pool", type=click.Choice(("prefork", "threads", "solo")), default="prefork", show_default=True,
              help="What tasks run in; only prefork can kill a task that hangs.")  # fmt: skip
@click.option("--name", show_default="crawlyard-PID", help="Node name of this worker.")
@loglevel
def worker(queues: str, concurrency: int | None, pool: str, name: str | None, loglevel: str) -> int:
    """Run a worker until SIGTERM or Ctrl-C."""
    from console.commands.worker import start_worker

    names = [queue.strip() for queue in queues.split(",") if queue.strip()]
    return start_worker(queues=names, concurrency=concurrency, pool=pool, name=name, loglevel=loglevel)


@crawlyard.under(RUN)
@click.command()
@loglevel
def beat(loglevel: str) -> None:
    """Publish the periodic tasks. One is enough; several are safe."""
    from console.commands.worker import start_beat

    start_beat(loglevel=loglevel)


@crawlyard.under(RUN)
@click.command()
@loglevel
def gateway(loglevel: str) -> None:
    """Hold the links of crawlers until SIGTERM or Ctrl-C."""
    from console.commands.gateway import start_gateway

    start_gateway(loglevel=loglevel)


@crawlyard.under(LOOK)
@click.command()
@as_json
@click.option("--watch", type=click.FloatRange(0.1), metavar="SECONDS",
              help="Repeat every SECONDS until Ctrl-C.")  # fmt: skip
def status(as_json: bool, watch: float | None) -> int:  # noqa: FBT001 - click's
    """Show the job queue, the connections, recent failures and the broker's queues."""
    from console.commands.status import show_status

    return show_status(as_json=as_json, watch=watch)


@crawlyard.under(LOOK)
@click.command()
@click.option("--job", "jobs", multiple=True, metavar="ID", help="This job; may be repeated.")
@click.option("--account", metavar="ID", help="All jobs of this account that were ever queued.")
@click.option("--subtree", metavar="ID", help="Totals of this job and all jobs that it spawned.")
@click.option("--after", default="", metavar="ID", help="With --account: continue after this job.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=100, show_default=True,
              help="Maximum number of jobs.")  # fmt: skip
@as_json
def progress(**options: Any) -> int:
    """Show how far jobs are."""
    from console.commands.progress import show_progress

    return show_progress(**options)


@crawlyard.under(LOOK)
@click.command()
@click.argument("ids", nargs=-1, metavar="[ID]...")
@click.option("--after", default="", metavar="ID", help="Continue after this connection.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=1000, show_default=True,
              help="Maximum number of connections.")  # fmt: skip
@click.option("--gateway", metavar="NAME", help="Only connections that were last reached over this gateway.")
@click.option("--gateways", is_flag=True, help="List the gateways instead, also those without a crawler.")
@as_json
def connections(**options: Any) -> int:
    """List the active connections, or show the given ones with their attempts."""
    from console.commands.connections import show_connections

    return show_connections(**options)


@crawlyard.under(LOOK)
@click.command()
@as_json
@click.option("--account", "account_id", metavar="ID", help="Only this account, counted now.")
def stats(as_json: bool, account_id: str | None) -> int:  # noqa: FBT001 - click's
    """Show jobs by command and status, accounts, areas and throughput."""
    from console.commands.stats import show_statistics

    return show_statistics(account_id=account_id, as_json=as_json)


@crawlyard.under(LOOK)
@click.command()
@click.option("--worker", is_flag=True, help="Check only that this machine's workers consume.")
@click.option("--beat", is_flag=True, help="Check only that this machine's beat publishes.")
@click.option("--gateway", is_flag=True, help="Check only that this machine's gateways serve their links.")
@click.option("--end-stuck", is_flag=True, help="Kill processes that fail the check, so that their supervisor "
              "restarts them.")  # fmt: skip
@as_json
def health(**options: bool) -> int:
    """Check that everything works; exit code 1 if not. For healthchecks."""
    from console.commands.health import show_health

    return show_health(**options)


@crawlyard.under(LOOK)
@click.command()
@as_json
def doctor(as_json: bool) -> int:  # noqa: FBT001 - click's
    """Examine servers, clocks and settings, and say how to fix what is wrong."""
    from console.commands.doctor import show_diagnosis

    return show_diagnosis(as_json=as_json)


@crawlyard.under(LOOK)
@click.command()
@as_json
@click.option("--only", multiple=True, metavar="NAME", help="Run only this check; may be repeated.")
@click.option("--list", "lists", is_flag=True, help="List all checks and what they mean, and check nothing.")
def audit(as_json: bool, only: tuple[str, ...], lists: bool) -> int:  # noqa: FBT001 - click's
    """
    Check every invariant as of one moment; exit code 1 if one is broken.

    The audit only reads, and may run at any time while the fleet works. It prints the first ids that
    break an invariant. Work that is only waiting its turn is no fault, nor is anything that the web
    app is allowed to do.
    """
    from console.commands.audit import show_audit, show_checks

    if lists:
        show_checks(as_json=as_json)
        return 0
    return show_audit(only=only, as_json=as_json)


@crawlyard.under(LOOK)
@click.command()
@click.option("--follow", is_flag=True, help="Keep printing new events until Ctrl-C.")
@click.option("--account", metavar="ID", help="Only events of this account.")
@click.option("--job", "jobs", multiple=True, metavar="ID", help="Only events of this job; may be repeated.")
@click.option(
    "--type", "types", multiple=True, metavar="TYPE", help="Only events of this type; may be repeated."
)
@click.option("--from", "start", metavar="beginning|now|CURSOR", show_default="beginning; with --follow now",
              help="Where to start: beginning, now, or the cursor of the last event that was handled.")  # fmt: skip
@click.option("--limit", type=click.IntRange(1), help="Stop after this many lines.")
def events(**options: Any) -> None:
    """Print events, one JSON object per line."""
    from console.commands.events import EventsOptions, show_events

    show_events(EventsOptions(**options))


@crawlyard.under(LOOK)
@click.command()
@click.argument("task", required=False)
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), metavar="DIR",
              help="Write each schema to a file in this directory instead.")  # fmt: skip
def contract(task: str | None, out: Path | None) -> None:
    """
    Print the JSON Schema of TASK's payload, or of all tasks and the frames.

    protocol_1.crawler and protocol_1.gateway are what crawlers and gateways send each other.
    """
    from console.commands.contract import show_contract

    show_contract(task, out)


for group in (errors, rejected):
    crawlyard.under(LOOK)(group)
for group in (jobs, areas, accounts, crawlers, gitlab):
    crawlyard.under(CHANGE)(group)


@crawlyard.under(SET_UP)
@click.command()
@as_json
def migrate(as_json: bool) -> None:  # noqa: FBT001 - click's
    """Create the tables, or upgrade them to the newest schema."""
    from console.commands.migrate import show_migration

    show_migration(as_json=as_json)


@crawlyard.under(SET_UP)
@click.command()
@click.option("--yes", is_flag=True, help="Release the jobs without asking for confirmation.")
@as_json
def adopt(yes: bool, as_json: bool) -> None:  # noqa: FBT001 - click's
    """Release the jobs of an older database, which migrate leaves alone."""
    from console.commands.migrate import show_adoption

    show_adoption(yes=yes, as_json=as_json)


@crawlyard.under(SET_UP)
@click.command()
@as_json
def services(as_json: bool) -> None:  # noqa: FBT001 - click's
    """Run PostgreSQL and Valkey for a first try, and remove them at the end."""
    from console.embedded.servers import run_foreground

    run_foreground(as_json=as_json)


@crawlyard.under(SET_UP)
@click.command()
@click.option(
    "--jobs", type=click.IntRange(1), default=500, show_default=True, help="Number of jobs to submit."
)
@click.option("--crawlers", type=click.IntRange(1), default=10, show_default=True,
              help="Number of simulated crawlers.")  # fmt: skip
@click.option("--seed", type=int, help="Seed of all random choices.")
@click.option("--speed", type=click.FloatRange(0, min_open=True), default=1.0, show_default=True,
              help="Speed-up factor of crawlers and submissions.")  # fmt: skip
@click.option("--json", "json_file", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
              help="Write the result to this file.")  # fmt: skip
@click.option("--plain", is_flag=True, help="Print lines instead of a live screen.")
def demo(**options: Any) -> int:
    """See it work: servers, workers and a simulated fleet on this machine."""
    from console.demo.play import DemoOptions, run

    return run(DemoOptions(**options))


if __name__ == "__main__":
    main()
