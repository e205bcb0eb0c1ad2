"""The `crawlyard` command: what can be asked, and nothing of how it is done."""
# ruff: noqa: PLC0415 - every command imports what it needs itself, so that --help is there at once

import sys
from pathlib import Path
from typing import Any

import click

from console.commands.errors_group import errors
from console.commands.jobs import jobs
from console.commands.rejected_group import rejected
from console.module_path import leave_current_directory
from console.options import as_json
from console.output.exit_codes import ended
from console.sections import Sections

RUN, LOOK, CHANGE, SET_UP = "Run", "Look", "Change", "Set up"
QUEUES = "crawler,dispatch,upkeep"
LEVELS = ("debug", "info", "warning", "error", "critical")

loglevel = click.option(
    "--loglevel", type=click.Choice(LEVELS, case_sensitive=False), default="info", show_default=True,
    help="What is logged, on standard error.",
)  # fmt: skip


def main() -> None:
    """Run the command, and end the process with its exit code."""
    leave_current_directory()
    sys.exit(ended(lambda: crawlyard(prog_name="crawlyard", standalone_mode=False)))


def _print_version(ctx: click.Context, _parameter: click.Parameter, value: bool) -> None:  # noqa: FBT001 - click's
    if value:
        from console.version import version

        click.echo(f"crawlyard {version()}")
        ctx.exit()


@click.group(
    cls=Sections,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Settings come from the environment: DATABASE_URL, BROKER_URL and CRAWLYARD_…; "
    "`crawlyard doctor` lists them all.",
)
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_print_version,
    help="Print the version.",
)  # fmt: skip
def crawlyard() -> None:
    """Dispatch a fleet of crawlers: jobs out, heartbeats in, every failure on record."""


@crawlyard.under(RUN)
@click.command()
@click.option(
    "--queues", default=QUEUES, show_default=True, help="Which queues it serves, separated by commas."
)
@click.option("--concurrency", type=click.IntRange(1), show_default="one a CPU",
              help="Units at the same time.")  # fmt: skip
@click.option("--pool", type=click.Choice(("prefork", "threads", "solo")), default="prefork", show_default=True,
              help="What they run in; only prefork can end one that hangs.")  # fmt: skip
@click.option("--name", show_default="crawlyard-PID", help="Its name among the workers.")
@loglevel
def worker(queues: str, concurrency: int | None, pool: str, name: str | None, loglevel: str) -> int:
    """Run a worker, until SIGTERM or Ctrl-C."""
    from console.commands.worker import start_worker

    names = [queue.strip() for queue in queues.split(",") if queue.strip()]
    return start_worker(queues=names, concurrency=concurrency, pool=pool, name=name, loglevel=loglevel)


@crawlyard.under(RUN)
@click.command()
@loglevel
def beat(loglevel: str) -> None:
    """Ring the periodic tasks; run one, or several for safety."""
    from console.commands.worker import start_beat

    start_beat(loglevel=loglevel)


@crawlyard.under(LOOK)
@click.command()
@as_json
@click.option("--watch", type=click.FloatRange(0.1), metavar="SECONDS", help="Again and again, until Ctrl-C.")
def status(as_json: bool, watch: float | None) -> int:  # noqa: FBT001 - click's
    """Show queue, connections, failures and the broker's queues."""
    from console.commands.status import show_status

    return show_status(as_json=as_json, watch=watch)


@crawlyard.under(LOOK)
@click.command()
@click.option("--job", "jobs", multiple=True, metavar="ID", help="This job; may be given several times.")
@click.option("--account", metavar="ID", help="All jobs of an account that were ever queued.")
@click.option("--subtree", metavar="ID", help="A job with all that it spawned, in sums.")
@click.option("--after", default="", metavar="ID", help="With --account: go on behind this job.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=100, show_default=True, help="Jobs at most.")
@as_json
def progress(**options: Any) -> int:
    """Show how far jobs are."""
    from console.commands.progress import show_progress

    return show_progress(**options)


@crawlyard.under(LOOK)
@click.command()
@click.argument("ids", nargs=-1, metavar="[ID]...")
@click.option("--after", default="", metavar="ID", help="Go on behind this connection.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=1000, show_default=True,
              help="Connections at most.")  # fmt: skip
@as_json
def connections(**options: Any) -> int:
    """Show who is connected, or some connections with what they work on."""
    from console.commands.connections import show_connections

    return show_connections(**options)


@crawlyard.under(LOOK)
@click.command()
@as_json
@click.option("--account", "account_id", metavar="ID", help="Of this account alone, counted now.")
def stats(as_json: bool, account_id: str | None) -> int:  # noqa: FBT001 - click's
    """Show jobs by command and state, accounts, areas and throughput."""
    from console.commands.stats import show_statistics

    return show_statistics(account_id=account_id, as_json=as_json)


@crawlyard.under(LOOK)
@click.command()
@click.option("--worker", is_flag=True, help="Only whether this machine's workers consume.")
@click.option("--beat", is_flag=True, help="Only whether this machine's beat sends.")
@click.option("--end-stuck", is_flag=True, help="Kill those that do not, for their supervisor to start anew.")
@as_json
def health(**options: bool) -> int:
    """Check that all is at work; exit code 1 if not. For healthchecks."""
    from console.commands.health import show_health

    return show_health(**options)


@crawlyard.under(LOOK)
@click.command()
@as_json
def doctor(as_json: bool) -> int:  # noqa: FBT001 - click's
    """Examine servers, clocks and settings, and say what to mend."""
    from console.commands.doctor import show_diagnosis

    return show_diagnosis(as_json=as_json)


@crawlyard.under(LOOK)
@click.command()
@as_json
@click.option("--only", multiple=True, metavar="NAME", help="This check; may be given several times.")
@click.option("--list", "lists", is_flag=True, help="Print the names of all checks, and what they mean.")
def audit(as_json: bool, only: tuple[str, ...], lists: bool) -> int:  # noqa: FBT001 - click's
    """
    Check every invariant as of one moment; exit code 1 if one is broken.

    Only reads, and may be run at any time beside the fleet at work. Of what breaks an invariant the
    first ids are named. What only waits for its turn, or what the web app may do, is no fault.
    """
    from console.commands.audit import show_audit, show_checks

    if lists:
        show_checks(as_json=as_json)
        return 0
    return show_audit(only=only, as_json=as_json)


@crawlyard.under(LOOK)
@click.command()
@click.option("--follow", is_flag=True, help="Go on with what comes, until Ctrl-C.")
@click.option("--account", metavar="ID", help="Only this account's.")
@click.option(
    "--job", "jobs", multiple=True, metavar="ID", help="Only this job's; may be given several times."
)
@click.option(
    "--type", "types", multiple=True, metavar="TYPE", help="Only this type; may be given several times."
)
@click.option("--from", "start", metavar="beginning|now|CURSOR", show_default="beginning; with --follow now",
              help="Where to begin: the cursor of the last event that was handled, or a word.")  # fmt: skip
@click.option("--limit", type=click.IntRange(1), help="End after so many lines.")
def events(**options: Any) -> None:
    """Print what happens, a JSON object a line."""
    from console.commands.events import EventsOptions, show_events

    show_events(EventsOptions(**options))


@crawlyard.under(LOOK)
@click.command()
@click.argument("task", required=False)
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), metavar="DIR",
              help="Write one file a schema there.")  # fmt: skip
def contract(task: str | None, out: Path | None) -> None:
    """Print the JSON Schema of TASK's payload, or of all tasks and the frames."""
    from console.commands.contract import show_contract

    show_contract(task, out)


for looking in (errors, rejected):
    crawlyard.under(LOOK)(looking)
crawlyard.under(CHANGE)(jobs)


@crawlyard.under(SET_UP)
@click.command()
@as_json
def migrate(as_json: bool) -> None:  # noqa: FBT001 - click's
    """Create the tables, or bring them to the newest schema."""
    from console.commands.migrate import show_migration

    show_migration(as_json=as_json)


@crawlyard.under(SET_UP)
@click.command()
@click.option("--yes", is_flag=True, help="Release them without asking.")
@as_json
def adopt(yes: bool, as_json: bool) -> None:  # noqa: FBT001 - click's
    """Take up the jobs of an older database, which migrate left alone."""
    from console.commands.migrate import show_adoption

    show_adoption(yes=yes, as_json=as_json)


@crawlyard.under(SET_UP)
@click.command()
@as_json
def services(as_json: bool) -> None:  # noqa: FBT001 - click's
    """Run PostgreSQL and Valkey for a first try; nothing is left behind."""
    from console.embedded.servers import run_foreground

    run_foreground(as_json=as_json)


@crawlyard.under(SET_UP)
@click.command()
@click.option("--jobs", type=click.IntRange(1), default=500, show_default=True, help="Jobs to be crawled.")
@click.option("--crawlers", type=click.IntRange(1), default=10, show_default=True, help="Simulated crawlers.")
@click.option("--seed", type=int, help="Of everything that is random.")
@click.option("--speed", type=click.FloatRange(0, min_open=True), default=1.0, show_default=True,
              help="How much faster than real crawlers.")  # fmt: skip
@click.option("--json", "json_file", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
              help="Write what came of it there.")  # fmt: skip
@click.option("--plain", is_flag=True, help="Lines instead of a moving picture.")
def demo(**options: Any) -> int:
    """See it work: servers, workers and a simulated fleet, on this machine."""
    from console.demo.play import DemoOptions, run

    return run(DemoOptions(**options))


if __name__ == "__main__":
    main()
