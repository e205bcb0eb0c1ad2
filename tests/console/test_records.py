"""`crawlyard errors` and `crawlyard rejected`: the stored errors and messages, as text and as JSON."""

import json
from datetime import timedelta

import click
import pytest
import redis

from console.main import crawlyard
from console.options import duration
from persistence.error_log.fingerprint import fingerprint
from support.command import Run
from support.processes.workers import free_port
from support.worlds.world import World

EVIL = "\x1b[31mevil [bold]words[/]"
TRACE = "TypeError: x\n\tat crawl (/app/crawl.ts:7:1)\n    at \x1b[31mevil (x.ts:1:1)"
GROUP = fingerprint("TypeError", "issue 1 broke", TRACE)


@pytest.fixture
def failed(world: World) -> list[str]:
    """Two jobs: the first has two similar errors, and both have one error of another kind. Returns the jobs' ids."""
    one, two = world.jobs(2)
    similar = {"error_type": "TypeError", "stack_trace": TRACE}
    for error in (
        similar | {"job_id": one, "error_message": "issue 1 broke"},
        similar | {"job_id": one, "error_message": "issue 2 broke", "context": {"page": 7}},
        {"job_id": one, "error_type": "Other", "error_message": EVIL},
        {"job_id": two, "error_type": "Other", "error_message": EVIL},
    ):
        world.deliver("failures.log", errors=[error])
    return [one, two]


# Errors, one by one


def test_errors_are_listed_newest_first(failed: list[str], run: Run) -> None:
    """Each error takes two lines, --before leads to the next page, and --job selects one job."""
    output = run("errors", "list", "--limit", "3")

    lines = output.out.splitlines()
    assert output.code == 0
    assert [line.split()[2] for line in lines[2:7:2]] == [failed[1], failed[0], failed[0]]
    assert "TypeError: issue 2 broke" in lines[5]
    assert GROUP in lines[6]
    assert "issue 1 broke" not in output.out
    oldest = run("errors", "list", "--before", lines[7].removeprefix("Older ones: --before "), "--json").json
    assert [error["error_message"] for error in oldest] == ["issue 1 broke"]
    assert {e["job_id"] for e in run("errors", "list", "--job", failed[1], "--json").json} == {failed[1]}


def test_errors_are_printed_as_one_json_value(failed: list[str], run: Run) -> None:
    """Each error has all of its columns."""
    found = run("errors", "list", "--job", failed[0], "--json").json

    assert [error["error_message"] for error in found] == [EVIL, "issue 2 broke", "issue 1 broke"]
    assert found[1].pop("id") != found[2].pop("id")
    assert found[1].pop("timestamp") > found[2].pop("timestamp")
    assert found[1] == {
        "job_id": failed[0],
        "account_id": "acc",
        "error_type": "TypeError",
        "error_message": "issue 2 broke",
        "stack_trace": TRACE,
        "context": {"page": 7},
        "retry_count": 0,
        "is_recoverable": True,
        "fingerprint": GROUP,
        "resolution": None,
    }


def test_since_excludes_older_errors(world: World, failed: list[str], run: Run) -> None:
    """--since lists only errors at most that old."""
    world.rows(
        "UPDATE job_error_log SET timestamp = timestamp - interval '2 hours' WHERE job_id = :j", j=failed[0]
    )

    assert len(run("errors", "list", "--since", "1h", "--json").json) == 1
    assert len(run("errors", "list", "--since", "3h", "--json").json) == 4


def test_an_empty_log_is_reported(world: World, run: Run) -> None:
    """Text says that nothing matches, and JSON is an empty list."""
    for command in (["errors", "list"], ["errors", "groups"]):
        assert run(*command).out == "No errors match.\n"
        assert run(*command, "--json").json == []
    assert run("rejected", "list").out == "No messages match.\n"
    assert run("rejected", "list", "--json").json == []


# Groups


def test_groups_are_listed_with_their_counts(world: World, failed: list[str], run: Run) -> None:
    """The largest or the most recent group comes first; --unresolved leaves out resolved groups."""
    output = run("errors", "groups")

    assert output.code == 0
    other = fingerprint("Other", EVIL)
    assert [line.split()[:5] for line in output.out.splitlines()[1::2]] == [
        ["2", "2", "2", "1", other],
        ["2", "2", "1", "1", GROUP],
    ]
    assert "TypeError: issue 2 broke" in output.out
    world.deliver("failures.resolve", error_group=other, resolution="x")
    assert [g["fingerprint"] for g in run("errors", "groups", "--unresolved", "--json").json] == [GROUP]
    assert [g["unresolved"] for g in run("errors", "groups", "--sort", "last_seen", "--json").json] == [0, 2]


def test_one_group_is_shown_with_its_newest_errors_and_a_trace(failed: list[str], run: Run) -> None:
    """A stack trace is printed line by line, and is one string in JSON."""
    output = run("errors", "show", GROUP, "--limit", "1")

    assert output.code == 0
    assert "2, 2 of them unresolved" in output.out
    assert "1, of 1 account " in output.out
    assert "\n    at crawl (/app/crawl.ts:7:1)\n    at ·[31mevil (x.ts:1:1)\n" in output.out
    assert "issue 1 broke" not in output.out
    found = run("errors", "show", GROUP, "--json").json
    assert (found["group"]["fingerprint"], found["group"]["errors"]) == (GROUP, 2)
    assert [error["stack_trace"] for error in found["newest"]] == [TRACE, TRACE]


def test_a_long_trace_is_cut_with_a_note(world: World, run: Run) -> None:
    """Text shows the first 40 lines and the number of the others."""
    (job,) = world.jobs(1)
    trace = "\n".join(f"    at f{number} (x.ts:1:1)" for number in range(45))
    error = {"job_id": job, "error_type": "E", "error_message": "m", "stack_trace": trace}
    world.deliver("failures.log", errors=[error])

    output = run("errors", "show", fingerprint("E", "m", trace))

    assert output.out.endswith("at f39 (x.ts:1:1)\n… 5 more lines; --json prints all\n")


@pytest.mark.parametrize("command", [["list"], ["groups"], ["show", fingerprint("Other", EVIL)]])
def test_crawler_text_is_shown_without_control_codes_or_markup(
    failed: list[str], run: Run, command: list[str]
) -> None:
    """Unprintable characters become dots, and square brackets stay."""
    output = run("errors", *command)

    assert "·[31mevil [bold]words[/]" in output.out
    assert "\x1b" not in output.out


# Resolving


def test_resolving_a_group_publishes_a_message(failed: list[str], run: Run, broker: str) -> None:
    """The command prints how many errors the message is about."""
    output = run("errors", "resolve", GROUP, "deployed 1.2")

    assert (output.code, output.out) == (0, f"Published: a worker will resolve 2 errors of {GROUP}.\n")
    with redis.Redis.from_url(broker) as client:
        (message,) = client.lrange("dispatch", 0, -1)
    assert json.loads(message)["headers"]["task"] == "failures.resolve"


def test_retrying_a_group_publishes_a_message(failed: list[str], run: Run, broker: str) -> None:
    """The command prints how many jobs the group has."""
    output = run("errors", "retry", GROUP)

    assert (output.code, output.err) == (0, "")
    assert output.out == (f"Published: a worker will requeue the failed jobs among the 1 job of {GROUP}.\n")
    with redis.Redis.from_url(broker) as client:
        (message,) = client.lrange("dispatch", 0, -1)
    assert json.loads(message)["headers"]["task"] == "jobs.retry"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["resolve", "0" * 16, "x"], f"there is no group of errors {'0' * 16}"),
        (["resolve", GROUP, ""], "resolution"),
        (["show", "nothing"], "there is no group of errors nothing"),
        (["list", "--before", "nothing"], "there is no error nothing"),
    ],
)
def test_an_unknown_id_is_reported_in_one_line(
    failed: list[str], run: Run, broker: str, arguments: list[str], complaint: str
) -> None:
    """The line is on standard error, the exit code is 2, and nothing is published."""
    output = run("errors", *arguments)

    assert (output.code, output.out) == (2, "")
    assert output.err.startswith(f"crawlyard: {complaint}")
    assert output.err.count("\n") == 1
    with redis.Redis.from_url(broker) as client:
        assert client.keys() == []


def test_a_missing_broker_is_reported_in_one_line(
    failed: list[str], run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The line does not contain the broker's password."""
    monkeypatch.setenv("BROKER_URL", f"redis://:hush-hush@127.0.0.1:{free_port()}/0")

    output = run("errors", "resolve", GROUP, "x")

    assert (output.code, output.out) == (2, "")
    assert output.err.startswith("crawlyard: The broker cannot be used")
    assert "hush-hush" not in output.err


# Rejected messages


def test_rejected_messages_are_listed_and_shown(world: World, run: Run) -> None:
    """Messages are selected by reason and task, and one is shown with its stored payload."""
    item = {"job_id": EVIL, "error_type": "E", "error_message": "private_token=abc"}
    world.deliver("failures.log", errors=[item, {"job_id": "x"}])
    world.deliver("jobs.cancel", job_ids=[])

    found = [(r["task"], r["reason"]) for r in run("rejected", "list", "--json").json]
    assert found[0] == ("jobs.cancel", "invalid")
    assert sorted(found[1:]) == [("failures.log", "invalid"), ("failures.log", "unknown_job")]
    assert len(run("rejected", "list", "--task", "failures.log", "--json").json) == 2
    (unknown,) = run("rejected", "list", "--reason", "unknown_job", "--json").json
    listed, shown = run("rejected", "list", "--limit", "3"), run("rejected", "show", unknown["id"])
    assert (listed.code, shown.code) == (0, 0)
    assert len(listed.out.splitlines()) == 7
    assert "error_type (Field required)" in listed.out
    assert '"error_message": "private_token=[redacted]"' in shown.out
    assert "·" not in shown.out  # JSON has no control characters
    assert run("rejected", "show", unknown["id"], "--json").json == unknown
    assert unknown["payload"]["job_id"] == EVIL


def test_an_unknown_rejected_message_is_reported_in_one_line(world: World, run: Run) -> None:
    """The exit code is 2."""
    output = run("rejected", "show", EVIL)

    assert (output.code, output.out) == (2, "")
    assert output.err.startswith("crawlyard: there is no rejected message")


# Help and options


@pytest.mark.parametrize("group", ["errors", "rejected"])
def test_every_subcommand_has_help_without_settings(
    group: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Help needs no settings, and every option has a help text."""
    monkeypatch.delenv("DATABASE_URL", raising=False)
    monkeypatch.delenv("BROKER_URL", raising=False)
    commands = crawlyard.commands[group]
    assert isinstance(commands, click.Group)

    for name, command in commands.commands.items():
        output = run(group, name, "--help")
        assert (output.code, output.err) == (0, "")
        assert f"crawlyard {group} {name}" in output.out
        assert all(option.help for option in command.params if isinstance(option, click.Option))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("90s", timedelta(seconds=90)),
        ("15min", timedelta(minutes=15)),
        ("15m", timedelta(minutes=15)),
        ("1.5h", timedelta(minutes=90)),
        (" 7 d ", timedelta(days=7)),
    ],
)
def test_a_duration_is_a_number_and_a_unit(text: str, expected: timedelta) -> None:
    """Fractions, spaces and both short forms of minutes are accepted."""
    assert duration(text) == expected


@pytest.mark.parametrize(
    "text", ["", "7", "d", "0s", "-1h", "1w", "36501d", "9" * 13 + "s", "1h30min", "\u0661h"]
)
def test_anything_else_is_not_a_duration(text: str) -> None:
    """Durations that PostgreSQL could not subtract from a timestamp are refused too."""
    with pytest.raises(click.BadParameter):
        duration(text)
