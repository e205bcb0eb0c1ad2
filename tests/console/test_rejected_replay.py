"""`crawlyard rejected replay` and `discard`: rejected messages are sent again, as stored or edited, or deleted."""

import base64
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from kombu.exceptions import OperationalError

from persistence.messages import rejected_queries
from persistence.sanitize.alterations import alteration_of
from persistence.sanitize.json_values import storable
from support.command import Run
from support.poolers import through
from support.processes.workers import Worker, free_port, running, wait_until
from support.worlds.world import NOW, World
from tasks.client import Producer
from tasks.runtime.replay import UnreplayableError, original_arguments

Queues = Callable[[], list[dict[str, Any]]]

ORDER = {
    "account_id": "later",
    "provider": "gitlab-cloud",
    "gitlab_host": "gitlab.example.org",
    "command": "project",
}
ULID = "01ARZ3NDEKTSV4RRFFQ69G5FAV"


@pytest.fixture
def queues(broker: str) -> Iterator[Queues]:
    """Return the messages in the queues: task, id and arguments of each, in order."""
    with redis.Redis.from_url(broker) as client:

        def messages() -> list[dict[str, Any]]:
            texts = [
                text for q in ("crawler", "dispatch", "upkeep") for text in client.lrange(q, 0, -1)[::-1]
            ]
            return [_message(json.loads(text)) for text in texts]

        yield messages


def _message(envelope: dict[str, Any]) -> dict[str, Any]:
    headers = envelope["headers"]
    kwargs = json.loads(base64.b64decode(envelope["body"]))[1]
    return {"task": headers["task"], "id": headers["id"], "kwargs": kwargs}


def stored(world: World) -> list[str]:
    """Return the ids of the stored messages, the oldest first."""
    return [id_ for (id_,) in world.rows("SELECT id FROM rejected_message ORDER BY rejected_at, id")]


def refused(world: World, *jobs: str) -> list[str]:
    """Submit orders of an account that does not exist yet, one by one, and return the ids of the rejected messages."""
    for job in jobs:
        world.submit(ORDER | {"web_app_job_id": job, "namespace_path": f"group/{job}"})
    return stored(world)


def refuse(world: World, task: str, payload: Any, reason: str = "failed") -> str:
    """Store a message as rejected, and return its id."""
    with world.unit() as uow:
        uow.rejected.keep(task=task, payload=payload, reason=reason)
        uow.commit()
    return stored(world)[-1]


# Replay


def test_an_item_is_sent_again_as_a_batch_of_one(world: World, run: Run, queues: Queues) -> None:
    """The new message's id is derived from the row's; the row is deleted, and the task now accepts the item."""
    first, second = refused(world, "one", "two")

    output = run("rejected", "replay", first)

    assert (output.code, output.err) == (0, "")
    assert (
        output.out
        == f"{first}  jobs.submit, as message replay-{first}\nSent again: 1 message; not sent: 0.\n"
    )
    (message,) = queues()
    assert (message["task"], message["id"]) == ("jobs.submit", f"replay-{first}")
    assert [order["web_app_job_id"] for order in message["kwargs"]["orders"]] == ["one"]
    assert stored(world) == [second]
    world.account("later")
    world.deliver(message["task"], message["id"], **message["kwargs"])
    assert world.job("one").status == "queued"


def test_a_message_rejected_again_is_stored_again(world: World, run: Run, queues: Queues) -> None:
    """It becomes a new row, which has the id of the message that was sent again."""
    (first,) = refused(world, "one")
    run("rejected", "replay", first)
    (message,) = queues()

    world.deliver(message["task"], message["id"], **message["kwargs"])

    (again,) = stored(world)
    assert again != first
    row = world.row("SELECT * FROM rejected_message")
    assert (row.message_id, row.reason) == (f"replay-{first}", "unknown_account")


def test_a_message_of_an_interrupted_replay_is_processed_once(
    world: World, run: Run, queues: Queues, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A message that is published, not deleted and published again has the same id both times."""
    world.account("later")
    order = {key: value for key, value in ORDER.items() if key != "account_id"} | {"account_id": "later"}
    row = refuse(world, "jobs.submit", order)
    monkeypatch.setattr("console.commands.rejected_replay.discard_rejected", lambda ids: None)
    assert run("rejected", "replay", row).code == 0
    assert run("rejected", "replay", row).code == 0

    for message in queues():
        world.deliver(message["task"], message["id"], **message["kwargs"])

    assert len(queues()) == 2
    assert world.scalar("SELECT count(*) FROM job") == 1


@pytest.mark.parametrize(
    ("task", "payload", "arguments"),
    [
        ("jobs.enqueue", "job-1", {"job_ids": ["job-1"]}),
        ("jobs.enqueue", {"job_ids": ["a", "b"]}, {"job_ids": ["a", "b"]}),
        ("jobs.cancel", {"args": [["a"]], "kwargs": {"reason": "x"}}, {"job_ids": ["a"], "reason": "x"}),
        ("jobs.assign", {"args": [], "kwargs": {}}, {}),
        ("connections.register", {"connection_id": ULID}, {"connection_id": ULID}),
        ("connections.heartbeat", {"connection_id": ULID}, {"beats": [{"connection_id": ULID}]}),
        ("connections.expire_dead", {"as_of": NOW}, {"as_of": NOW}),
    ],
)
def test_arguments_items_and_payloads_are_distinguished(task: str, payload: Any, arguments: Any) -> None:
    """Payloads are stored in three forms: by tasks, by batches, and when a pool process was lost."""
    assert original_arguments(task, "failed", storable(payload)) == arguments


@pytest.mark.parametrize(
    ("task", "reason", "payload", "why"),
    [
        (None, "malformed", "{", "it was not a message"),
        ("jobs.cancel", "malformed", {"args": [], "kwargs": {"job_ids": ["a"]}}, "it was not a message"),
        (None, "failed", {}, "it named no task"),
        ("nobody.knows", "unknown_task", {"args": [], "kwargs": {}}, "there is no task nobody.knows"),
        ("jobs.cancel", "invalid", {"job_ids": []}, "the contract refuses it: job_ids"),
        ("jobs.submit", "invalid", ORDER | {"priority": "high"}, "the contract refuses it: priority"),
        ("jobs.assign", "invalid", {"args": [1], "kwargs": {}}, "at most 0 positional arguments"),
        ("jobs.cancel", "invalid", {"args": [["a"]], "kwargs": {"job_ids": ["a"]}}, "is given twice"),
        ("jobs.cancel", "failed", "job-1", "it is not an object"),
        (
            "crawler.frames",
            "invalid",
            {"type": "discovery", "jobId": ULID, "item": {}},
            "item of a discovery",
        ),
        ("failures.log", "unknown_job", {"job_id": "token=abc"}, "a secret was taken out of it"),
    ],
)
def test_an_unreplayable_message_gives_its_reason(
    task: str | None, reason: str, payload: Any, why: str
) -> None:
    """The reason is one line, which contains nothing of the payload."""
    with pytest.raises(UnreplayableError, match=r"^[^\n]+$") as refusal:
        original_arguments(task, reason, storable(payload))

    assert why in str(refusal.value)


def test_unreplayable_messages_are_reported_and_do_not_block_others(
    world: World, run: Run, queues: Queues
) -> None:
    """The other messages are sent, the exit code is 1, and unreplayable messages are neither published nor deleted."""
    (good,) = refused(world, "one")
    secret = {"job_id": "x", "error_type": "E", "error_message": "private_token=abc"}
    world.deliver("failures.log", errors=[secret])
    bad = stored(world)[-1]

    output = run("rejected", "replay", bad, good, "--json")

    assert output.code == 1
    assert output.json == {
        "dry_run": False,
        "replayed": [{"id": good, "task": "jobs.submit", "message_id": f"replay-{good}"}],
        "refused": [
            {
                "id": bad,
                "task": "failures.log",
                "why": "what was stored is not what was sent: a secret was taken out of it",
            }
        ],
    }
    assert stored(world) == [bad]
    assert [message["task"] for message in queues()] == ["jobs.submit"]
    text_output = run("rejected", "replay", bad)
    assert (text_output.code, text_output.out.splitlines()[-1]) == (1, "Sent again: 0 messages; not sent: 1.")


def test_an_edited_payload_is_sent_instead(world: World, run: Run, queues: Queues, tmp_path: Path) -> None:
    """The payload of an item is sent as an item again; the message gets a new id."""
    world.account("later")
    world.submit(ORDER | {"priority": "high", "web_app_job_id": "one"})
    (row,) = stored(world)
    file = tmp_path / "edited.json"
    file.write_text(json.dumps(ORDER | {"priority": 7, "web_app_job_id": "one"}))

    output = run("rejected", "replay", row, "--payload", str(file))

    assert (output.code, output.err) == (0, "")
    (message,) = queues()
    assert not message["id"].startswith("replay-")
    world.deliver(message["task"], message["id"], **message["kwargs"])
    assert world.entry("one").priority == 7
    assert stored(world) == []


def test_an_edited_payload_that_is_still_invalid_is_refused(world: World, run: Run, tmp_path: Path) -> None:
    """A file that is not JSON is a usage error; a payload that the contract refuses is not sent."""
    (row,) = refused(world, "one")
    file = tmp_path / "edited.json"
    file.write_text("{")
    assert "the file is not JSON" in run("rejected", "replay", row, "--payload", str(file)).err
    file.write_text('{"priority": 1}')

    output = run("rejected", "replay", row, "--payload", str(file))

    assert output.code == 1
    assert "account_id (Field required)" in output.out
    assert stored(world) == [row]


def test_a_missing_broker_loses_no_message(world: World, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command prints one line, exits with 2, and deletes no row."""
    rows = refused(world, "one", "two")
    monkeypatch.setenv("BROKER_URL", f"redis://:hush-hush@127.0.0.1:{free_port()}/0")

    output = run("rejected", "replay", *rows)

    assert (output.code, output.out) == (2, "")
    assert output.err.startswith("crawlyard: The broker cannot be used")
    assert "hush-hush" not in output.err
    assert stored(world) == rows


def test_messages_not_sent_before_a_broker_failure_are_kept(
    world: World, run: Run, queues: Queues, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Published messages are deleted from the list, the others are kept."""
    first, second = refused(world, "one", "two")
    publish = Producer.publish

    def once(self: Producer, task: str, payload: Any, message_id: str | None = None) -> str:
        if message_id == f"replay-{second}":
            raise OperationalError("gone")
        return publish(self, task, payload, message_id)

    monkeypatch.setattr(Producer, "publish", once)
    assert run("rejected", "replay", first, second).code == 2

    assert [message["id"] for message in queues()] == [f"replay-{first}"]
    assert stored(world) == [second]


# Selection


@pytest.mark.parametrize("command", ["replay", "discard"])
def test_a_dry_run_changes_nothing(command: str, world: World, run: Run, queues: Queues) -> None:
    """It prints what would be done, and asks for no confirmation."""
    rows = refused(world, "one", "two")

    output = run("rejected", command, "--task", "jobs.submit", "--dry-run")

    assert (output.code, output.err) == (0, "")
    assert "Would be " in output.out
    assert "2 messages" in output.out
    assert stored(world) == rows
    assert queues() == []


@pytest.mark.parametrize("command", ["replay", "discard"])
def test_changing_several_messages_selected_by_filter_requires_confirmation(
    command: str, world: World, run: Run, queues: Queues
) -> None:
    """Without a terminal to ask at, nothing is changed, and the exit code is 2; --yes confirms."""
    rows = refused(world, "one", "two")

    output = run("rejected", command, "--reason", "unknown_account")

    assert (output.code, output.out) == (2, "")
    assert output.err == (
        "crawlyard: nothing was changed: 2 messages are selected and need a confirmation; "
        "pass --yes to confirm, or --dry-run to list them\n"
    )
    assert stored(world) == rows
    assert queues() == []
    assert run("rejected", command, "--reason", "unknown_account", "--yes").code == 0
    assert stored(world) == []


@pytest.mark.parametrize("command", ["replay", "discard"])
@pytest.mark.parametrize(
    "wrong",
    [
        (["nothing"], "there is no rejected message nothing"),
        (["--yes"], "Give either ids or at least one of"),
        ([ULID, "--task", "jobs.submit"], "Give either ids or at least one of"),
        (["--since", "soon"], "is not a duration"),
    ],
)
def test_a_wrong_request_changes_nothing(
    command: str, wrong: tuple[list[str], str], world: World, run: Run, queues: Queues
) -> None:
    """The error is on standard error, the exit code is 2, and a valid id beside an unknown one is left alone."""
    arguments, complaint = wrong
    rows = refused(world, "one")
    good = rows if arguments == ["nothing"] else []

    output = run("rejected", command, *good, *arguments)

    assert (output.code, output.out) == (2, "")
    assert complaint in output.err
    assert stored(world) == rows
    assert queues() == []


def test_messages_are_selected_by_age_task_and_reason(world: World, run: Run) -> None:
    """All filters must match; a filter that matches nothing is not an error."""
    old, young = refused(world, "one", "two")
    other = refuse(world, "jobs.cancel", {"job_ids": ["a"]})
    world.rows("UPDATE rejected_message SET rejected_at = now() - interval '2 hours' WHERE id = :i", i=old)

    def listed(*options: str) -> list[str]:
        return [row["id"] for row in run("rejected", "list", *options, "--json").json]

    assert listed() == [other, young, old]
    assert listed("--until", "1h") == [old]
    assert listed("--since", "1h", "--task", "jobs.submit") == [young]
    assert listed("--since", "3h", "--until", "1h", "--reason", "failed") == []
    assert run("rejected", "discard", "--until", "1h", "--json").json == {"dry_run": False, "discarded": 1}
    assert stored(world) == [young, other]
    assert run("rejected", "discard", "--until", "1h").out == "Deleted: 0 messages.\n"


def test_many_messages_are_replayed_page_by_page_in_order(
    world: World, run: Run, queues: Queues, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The oldest come first, progress is printed per page, and an unreplayable message does not stop the rest."""
    monkeypatch.setattr(rejected_queries, "PAGE", 2)
    rows = [refuse(world, "jobs.enqueue", id_) for id_ in ("a", "b", "", "c", "d")]

    output = run("rejected", "replay", "--task", "jobs.enqueue", "--yes")

    assert output.code == 1
    assert output.err == "2 of 5 …\n4 of 5 …\n"
    assert [message["kwargs"]["job_ids"] for message in queues()] == [["a"], ["b"], ["c"], ["d"]]
    assert stored(world) == [rows[2]]


# Discard


def test_only_the_discarded_messages_are_deleted(world: World, run: Run, queues: Queues) -> None:
    """Nothing is published."""
    first, second = refused(world, "one", "two")

    output = run("rejected", "discard", first)

    assert (output.code, output.out, output.err) == (0, "Deleted: 1 message.\n", "")
    assert stored(world) == [second]
    assert queues() == []


# Altered payloads


@pytest.mark.parametrize(
    ("sent", "why"),
    [
        ({"a": "glpat-abcdefghij0123456789"}, "a secret"),
        ({"access_token": 1}, "a secret"),
        ({"password=abc": 1}, "a secret"),
        ({"a": "x" * 100_000}, "it was cut"),
        ({"a": ["x" * 50_000, "y" * 50_000]}, "it was cut"),
        ([0] * 100_000, "it was cut"),
        ({"a": ["\0"]}, "NUL"),
        ({"\ud800": 1}, "NUL or a lone surrogate"),
        ([float("nan")], "a number"),
        ([float("-inf")], "a number"),
        ([-(10**400)], "a number"),
    ],
)
def test_an_alteration_is_detected(sent: Any, why: str) -> None:
    """A payload that was redacted, cut or changed when it was stored is recognized, and why."""
    assert why in (alteration_of(storable(sent)) or "")


def test_truncated_nesting_is_detected() -> None:
    """Values nested too deep were replaced when the payload was stored."""
    sent: Any = 0
    for _ in range(100):
        sent = [sent]
    assert alteration_of(storable(sent)) == "it was nested too deep"


@pytest.mark.parametrize(
    "sent", [{"cut": "x", "a": 1}, {"a": {"cut": 1}}, [None, True, 1.5, -7, "é", {}], "0x12"]
)
def test_an_unaltered_payload_is_accepted(sent: Any) -> None:
    """A payload that looks similar to an altered one is accepted as it was sent."""
    assert alteration_of(storable(sent)) is None
    assert storable(sent) == sent


# With a worker


@pytest.mark.programs
def test_a_worker_processes_a_replayed_message(
    world: World, run: Run, services: Any, tmp_path: Path, broker: str
) -> None:
    """A replayed order creates its job, and is not rejected again."""
    (row,) = refused(world, "one")
    world.account("later")

    assert run("rejected", "replay", row).code == 0
    worker = Worker(
        "tasks",
        broker,
        tmp_path / "log",
        DATABASE_URL=through(services.database_url.rsplit("/", 1)[0] + "/migrated"),
    )
    with running(worker):
        wait_until(lambda: world.scalar("SELECT count(*) FROM job WHERE id = 'one'"), "the job is there")

    assert world.job("one").status == "queued"
    assert stored(world) == []
