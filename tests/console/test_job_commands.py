"""`crawlyard jobs`: a valid request is published as a task, an invalid one is not."""

import base64
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from console.main import crawlyard
from console.output.exit_codes import ended
from persistence.settings import settings
from support.processes.workers import free_port
from tasks.contract.payloads import CONTRACT

VERBS = ("cancel", "pause", "resume", "retry", "prioritize")


class Ran:
    """The exit code and output of a command, and the messages that it left in Redis."""

    def __init__(self, code: int, out: str, err: str, messages: list[Any]) -> None:
        self.code, self.out, self.err, self.messages = code, out, err, messages

    @property
    def published(self) -> list[tuple[str, Any]]:
        """Task and payload of each message."""
        return [(m["headers"]["task"], json.loads(base64.b64decode(m["body"]))[1]) for m in self.messages]


Run = Callable[..., Ran]


@pytest.fixture
def jobs(broker: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """Run `crawlyard jobs …` in this process, and read the queue that its tasks go to."""
    monkeypatch.setenv("BROKER_URL", broker)

    def run(*arguments: str) -> Ran:
        settings.cache_clear()
        capsys.readouterr()
        argv = ["jobs", *arguments]
        code = ended(lambda: crawlyard(argv, prog_name="crawlyard", standalone_mode=False))
        with redis.Redis.from_url(broker) as client:
            messages = [json.loads(text) for text in client.lrange("dispatch", 0, -1)]
            assert client.llen("crawler") == 0
        return Ran(code, *capsys.readouterr(), messages)

    yield run
    settings.cache_clear()


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize(
    ("given", "payload"),
    [
        (("--job", "a", "--job", "b"), {"job_ids": ["a", "b"]}),
        (("--account", "acc"), {"account_id": "acc"}),
        (("--area", "group/project"), {"area": "group/project"}),
        (("--subtree", "root"), {"subtree_of": "root"}),
    ],
    ids=["job", "account", "area", "subtree"],
)
def test_each_command_publishes_its_task_with_its_selection(
    verb: str, given: tuple[str, ...], payload: dict[str, Any], jobs: Run
) -> None:
    """One message is published, which the contract accepts, and its id is printed."""
    if verb == "prioritize":
        given, payload = (*given, "--priority", "-3"), payload | {"priority": -3}

    ran = jobs(verb, *given, "--reason", "the study ended")

    expected = payload | {"reason": "the study ended"}
    assert (ran.code, ran.err, ran.published) == (0, "", [(f"jobs.{verb}", expected)])
    (message,) = ran.messages
    id_ = message["headers"]["id"]
    assert ran.out == f"Published jobs.{verb} as message {id_}; a worker will run it.\n"
    CONTRACT[f"jobs.{verb}"].model_validate(expected)


def test_failed_jobs_are_selected_by_error_and_time(jobs: Run) -> None:
    """Times are published as given; --json prints the task, the message id and the payload."""
    after, before = "2026-05-04T03:02:01Z", "2026-05-05T00:00:00+02:00"

    ran = jobs(
        "retry", "--error-group", "f1", "--failed-after", after, "--failed-before", before, "--json"
    )  # fmt: skip

    payload = {"error_group": "f1", "failed_after": after, "failed_before": before}
    assert (ran.code, ran.published) == (0, [("jobs.retry", payload)])
    answer = {"task": "jobs.retry", "message_id": ran.messages[0]["headers"]["id"], "payload": payload}
    assert json.loads(ran.out) == answer


WRONG = [
    (("cancel", "--reason", "none"), "Give exactly one of --job, --account, --area, --subtree."),
    (("pause", "--job", "a", "--area", "b"), "Give exactly one of --job, --account, --area, --subtree."),
    (
        ("retry", "--error-group", "f", "--account", "b"),
        "Give exactly one of --job, --account, --area, --subtree, --error-group.",
    ),
    (("resume", "--error-group", "f"), "No such option '--error-group'."),
    (("prioritize", "--account", "a"), "Missing option '--priority'."),
    (("prioritize", "--account", "a", "--priority", "2000000"), "Invalid value for --priority:"),
    (("cancel", "--account", ""), "Invalid value for --account:"),
    (("cancel", "--job", "x" * 65), "Invalid value for --job:"),
    (("retry", "--account", "a", "--failed-after", "yesterday"), "Invalid value for --failed-after:"),
    (("retry", "--job", "a", "--failed-before", "2026-05-04T03:02:01"), "Invalid value for --failed-before:"),
]


@pytest.mark.parametrize(("arguments", "complaint"), WRONG, ids=lambda value: " ".join(value)[:40])
def test_an_invalid_request_publishes_nothing(arguments: tuple[str, ...], complaint: str, jobs: Run) -> None:
    """The error names the option, the exit code is 2, and nothing is published."""
    ran = jobs(*arguments)

    assert (ran.code, ran.out, ran.messages) == (2, "", [])
    assert complaint in ran.err


def test_an_unreachable_broker_is_reported_in_one_line(jobs: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing claims that the task was published, and no password is printed."""
    monkeypatch.setenv("BROKER_URL", f"redis://:hush-hush@127.0.0.1:{free_port()}/0")

    ran = jobs("cancel", "--account", "acc")

    assert (ran.code, ran.out, len(ran.err.splitlines())) == (2, "", 1)
    assert ran.err.startswith("crawlyard: The broker cannot be used:")
    assert "hush-hush" not in ran.err


@pytest.mark.parametrize("verb", VERBS)
def test_every_command_has_help(verb: str, jobs: Run) -> None:
    """--help explains every option, and needs no broker."""
    ran = jobs(verb, "--help")

    assert (ran.code, ran.err, ran.messages) == (0, "", [])
    assert f"crawlyard jobs {verb}" in ran.out
    group: Any = crawlyard.commands["jobs"]
    assert all(option.help for option in group.commands[verb].params)
