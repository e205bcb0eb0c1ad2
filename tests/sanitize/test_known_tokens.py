"""An account's access token is masked by its value in all that is stored of a crawler's message."""

import json
import time
from base64 import b64encode
from typing import Any
from urllib.parse import quote

import pytest
from sqlalchemy import event

from persistence.db.engine import engine
from persistence.sanitize.json_values import storable
from persistence.sanitize.text import redact_text, spellings
from support.worlds.world import Crawler, World

TOKEN = "4f1d0c7be2a94c5d8e3f60718293a4b5" * 2
"""As an older GitLab's OAuth token: it looks like a digest."""
ODD = 'a"b\\c%2Fd/e+f=g\u00e9h-0123'

STORED = ("job_queue", "job_error_log", "dispatch_event", "job", "job_assignment_mapping", "rejected_message")

ENCODED = {
    "plain": TOKEN,
    "percent": "".join(f"%{ord(c):02x}" for c in TOKEN),
    "json": json.dumps({"a": json.dumps(TOKEN)}),
    "unicode escapes": "".join(f"\\u{ord(c):04x}" for c in TOKEN),
    **{f"base64 after {n}": b64encode((b"x" * n) + TOKEN.encode()).decode() for n in range(3)},
    **{
        f"base64 among letters {n}": "path" * 3 + "z" * n + b64encode(TOKEN.encode()).decode()
        for n in range(4)
    },
    "hexadecimal": TOKEN.encode().hex(),
    "invisible": TOKEN[:30] + "\u200b" + TOKEN[30:],
}


@pytest.mark.parametrize("encoded", ENCODED.values(), ids=ENCODED)
def test_a_known_token_is_masked_in_each_encoding(encoded: str) -> None:
    """No form of it is left, and without its value it is kept."""
    assert TOKEN[:20] not in redact_text(f"of {encoded} x", (TOKEN,))
    assert redact_text(f"of {encoded} x", (TOKEN,)) != f"of {encoded} x"
    assert redact_text(f"of {encoded} x", ("another-token-of-24",)) == f"of {encoded} x"


@pytest.mark.parametrize("encode", [str, json.dumps, lambda text: quote(text, safe="")])
def test_a_token_with_signs_to_escape_is_masked(encode: object) -> None:
    """As it is, in JSON and percent-encoded."""
    assert callable(encode)
    assert "0123" not in redact_text(f"of {encode(ODD)} x", spellings(ODD))


def test_a_token_is_masked_in_values_and_keys() -> None:
    """Also one that the size limit would have cut in two."""
    assert storable({TOKEN: [TOKEN, 1]}, tokens=(TOKEN,)) == {"[redacted]": ["[redacted]", 1]}
    assert TOKEN[:8] not in str(storable("x" * 995 + TOKEN, 1000, (TOKEN,)))


def test_masking_three_thousand_tokens_takes_milliseconds() -> None:
    """One expression of all of them would take seconds."""
    text = "the quick brown fox jumps over the lazy dog\n" * 1500
    tokens = tuple(f"{n:064x}" for n in range(3000))

    start = time.process_time()
    assert redact_text(text, tokens) == text
    assert time.process_time() - start < 0.5


def at_work(world: World) -> tuple[Crawler, list[str]]:
    """A crawler with an order, whose account has the token."""
    crawler, orders = world.crawler_with_jobs()
    world.rows("UPDATE account SET access_token = :token", token=TOKEN)
    return crawler, orders


def is_stored(world: World) -> bool:
    """Whether the token is in any table but `account`."""
    stored = [world.scalar(f"SELECT string_agg(r::text, ' ') FROM {table} r") for table in STORED]
    return TOKEN[:20] in str(stored)


def test_the_accounts_token_is_masked_in_frames(world: World) -> None:
    """In progress, resume state, names of counts, errors, their events, and the entry."""
    crawler, (order,) = at_work(world)

    crawler.sends(
        "job_progress",
        order,
        stage="fetching",
        entity_type=TOKEN,
        processed=1,
        item_counts={TOKEN: 2},
        message=f"with {TOKEN}",
        resume_state={"lastEntityId": TOKEN, "currentPage": 2},
    )
    crawler.fails(order, errorType=TOKEN, error=f"401 {TOKEN}", stackTrace=TOKEN, context={TOKEN: TOKEN})

    assert world.scalar("SELECT progress::jsonb ->> 'message' FROM job") == "with [redacted]"
    assert world.scalar("SELECT resume_state::jsonb ->> 'lastEntityId' FROM job") == "[redacted]"
    assert world.scalar("SELECT error_message FROM job_error_log") == "401 [redacted]"
    assert not is_stored(world)


def test_the_token_of_another_attempt_of_the_connection_is_masked(world: World) -> None:
    """A crawler has the tokens of all of its orders, and may write one into a frame about another."""
    world.account("other")
    (job_id, _) = world.submit(world.order(), world.order(account_id="other"))
    crawler = world.crawler()
    world.assign()
    world.rows("UPDATE account SET access_token = :token WHERE id = 'other'", token=TOKEN)
    (attempt,) = world.attempts(job_id)

    crawler.sends(
        "job_progress",
        attempt.crawler_job_id,
        stage="fetching",
        entity_type="issue",
        processed=1,
        message=f"with {TOKEN}",
    )

    assert world.scalar("SELECT progress::jsonb ->> 'message' FROM job WHERE id = :id", id=job_id) == (
        "with [redacted]"
    )
    assert not is_stored(world)


def test_the_tokens_of_a_connections_attempts_are_masked_in_its_junk(world: World) -> None:
    """In items that are no frames, and in frames about no attempt."""
    crawler, _ = at_work(world)

    world.sends(
        {"connection_id": crawler.id, "frame": {"type": "nonsense", "text": f"x {TOKEN}"}},
        crawler.frame("job_failed", "01JD8XKZ5T7V0Q3W9R2N4M6P8S", error=TOKEN, isRecoverable=True),
    )

    assert len(world.rejections()) == 2
    assert not is_stored(world)


def test_the_tokens_of_a_whole_message_that_is_rejected_are_masked(world: World) -> None:
    """By the attempts and connections that it names anywhere."""
    crawler, (order,) = at_work(world)

    world.deliver("crawler.frames", None, frames=f"{crawler.id}: {TOKEN}")
    world.deliver("failures.log", None, errors=[{"crawler_job_id": order, "error_type": TOKEN, "x": TOKEN}])

    assert len(world.rejections()) == 2
    assert not is_stored(world)


def test_tokens_are_read_only_if_a_text_is_stored(world: World, request: pytest.FixtureRequest) -> None:
    """By one statement a message; none for frames without texts."""
    crawler, (order,) = world.crawler_with_jobs()
    read: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if "length(access_token)" in statement:
            read.append(statement)

    event.listen(engine(), "before_cursor_execute", note)
    request.addfinalizer(lambda: event.remove(engine(), "before_cursor_execute", note))
    progress = {"stage": "fetching", "entity_type": "merge_request_notes", "processed": 1}

    crawler.sends(
        "job_progress", order, **progress, resume_state={"lastEntityId": "gid://gitlab/Issue/1234567"}
    )
    assert read == []

    crawler.sends("job_progress", order, **progress, message="page 2")
    assert len(read) == 1
