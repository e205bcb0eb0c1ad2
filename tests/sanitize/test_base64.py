"""Secrets in base64 are found in either alphabet and under other encodings; other base64 is unchanged."""

import json
import random
import re
import time
from base64 import b64decode, b64encode, encodebytes, urlsafe_b64encode
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, unquote

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from ulid import ULID

from persistence.sanitize.base64_text import EncodedText, texts_in_base64
from persistence.sanitize.json_values import clean_text, redact
from persistence.sanitize.text import redact_text
from support.worlds.world import World

LENGTH = 200_000
SECRET = "Zq7-0f1e2d3c4b5a69788796a5b4c3d2e1f0"

Encoding = Callable[[str], str]


def standard(text: str) -> str:
    """The standard alphabet, with padding."""
    return b64encode(text.encode()).decode()


def unpadded(text: str) -> str:
    """Without padding."""
    return standard(text).rstrip("=")


def url_safe(text: str) -> str:
    """The URL-safe alphabet."""
    return urlsafe_b64encode(text.encode()).decode()


def in_lines(text: str) -> str:
    """In lines of 76 letters, as in mail."""
    return encodebytes(text.encode()).decode().rstrip("\n")


def percent(text: str) -> str:
    """With every letter percent-encoded that can be."""
    return quote(text, safe="")


BASE64: dict[str, Encoding] = {
    "standard": standard,
    "unpadded": unpadded,
    "url_safe": url_safe,
    "url_safe_unpadded": lambda text: url_safe(text).rstrip("="),
    "in_lines": in_lines,
    "then_percent": lambda text: percent(standard(text)),
    "then_percent_twice": lambda text: percent(percent(standard(text))),
    "after_percent": lambda text: standard(percent(text)),
    "twice": lambda text: standard(standard(text)),
    "url_safe_then_standard": lambda text: standard(url_safe(text)),
    "within_json": lambda text: json.dumps({"payload": standard(json.dumps({"text": text}))}),
    "lines_within_json": lambda text: json.dumps({"payload": in_lines(text)}),
}
ENCODINGS: dict[str, Encoding] = {"plain": str, "percent": percent, **BASE64}

CARRIERS = [
    "GET /api/v4/projects?private_token={}&page=2",
    "PRIVATE-TOKEN: {}",
    "GET /api/v4/jobs/7/artifacts?job_token={}",
    "JOB-TOKEN: {}",
    '{{"access_token": "{}", "token_type": "bearer"}}',
    "grant_type=refresh_token&refresh_token={}",
    "client_id=x&client_secret={}",
    "GET /callback?code={}&state=x",
    "Authorization: Basic {}",
    "Authorization: Bearer {}",
    "https://oauth2:{}@gitlab.example.org/group/project.git",
]


def shows(text: str, layers: int = 2) -> bool:
    """True if either end of the secret can be decoded, starting anywhere."""
    for form in (text, unquote(text), unquote(unquote(text))):
        plain = form.replace("\\n", "").replace("\n", "")
        if SECRET[:12] in plain or SECRET[-12:] in plain:
            return True
        for run in re.findall(r"[\w+/-]{8,}", plain.replace("\\", ""), re.ASCII) if layers else ():
            for start in range(4):
                letters = run[start:][: (len(run) - start) // 4 * 4].replace("-", "+").replace("_", "/")
                if shows(b64decode(letters).decode("latin-1"), layers - 1):
                    return True
    return False


# --- Texts ---


@pytest.mark.parametrize("encoding", BASE64)
@pytest.mark.parametrize("carrier", [*CARRIERS, "oauth2:glpat-{}", "glpat-{}"])
def test_a_secret_in_base64_is_redacted(carrier: str, encoding: str) -> None:
    """Whether its shape or its name reveals it; the text around it is unchanged."""
    text = carrier.format(SECRET)
    whole = f"the answer was <{BASE64[encoding](text)}>, and that was all"
    assert shows(whole)

    redacted = redact_text(whole)

    assert not shows(redacted)
    assert "[redacted]" in redacted
    assert redacted.startswith("the answer was <")
    assert redacted.endswith(">, and that was all")
    assert redact_text(redacted) == redacted


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("git: {}", "git: [redacted]"),
        (
            "https://gitlab.example.org/api/v4/x?a={}&b=c",
            "https://gitlab.example.org/api/v4/x?a=[redacted]&b=c",
        ),
        (
            '{{"a": "{}", "b": "dGhlIHRva2VuIGV4cGlyZWQ="}}',
            '{{"a": "[redacted]", "b": "dGhlIHRva2VuIGV4cGlyZWQ="}}',
        ),
        ("data:application/json;base64,{} ended", "data:application/json;base64,[redacted] ended"),
        ("{0} and {0}", "[redacted] and [redacted]"),
        ("a\n{}\nb", "a\n[redacted]\nb"),
    ],
)
def test_only_the_run_that_holds_the_secret_is_replaced(text: str, expected: str) -> None:
    """The text beside it is unchanged, including other base64."""
    for encoding in (standard, unpadded, url_safe):
        assert redact_text(text.format(encoding("oauth2:glpat-abcd ?>~~??>"))) == expected.format()


@pytest.mark.parametrize("before", ["", "/", "api/v4/projects/", "x-", "ab_", "abc", "===", "/var/log/", "0"])
@pytest.mark.parametrize("after", ["", "/", "/raw/main/x", "-x", "==", ".json"])
def test_letters_around_base64_do_not_hide_a_secret(before: str, after: str) -> None:
    """Nothing marks where base64 begins: a path consists of the same letters."""
    redacted = redact_text(f"{before}{unpadded(f'token={SECRET}')}{after}")

    assert not shows(redacted)
    assert "[redacted]" in redacted


@pytest.mark.parametrize("encoding", [standard, unpadded, url_safe])
@pytest.mark.parametrize("text", ["token=ab?>~cd?>>~~efghi", "token: a?~>?~>", "user=??>>~~~&token=abcdef"])
def test_a_path_around_base64_stays_readable(text: str, encoding: Encoding) -> None:
    """Except for a few letters next to it that may belong to the base64."""
    redacted = redact_text(
        f"https://gitlab.example.org/api/v4/projects/{encoding(text)}/-/raw/main/README.md"
    )

    before, after = redacted.split("[redacted]")
    assert "https://gitlab.example.org/api/v4/projects/".startswith(before)
    assert "/-/raw/main/README.md".endswith(after)
    assert len(before) > len("https://gitlab.example.org/api/v4/")
    assert len(after) > len(".md")


def test_lines_around_wrapped_base64_stay() -> None:
    """The lines of one encoded text are one run, wherever the secret is; the next line does not belong to it."""
    text = "x" * 150 + f" private_token={SECRET} " + "y" * 150
    for length in range(0, 60, 7):
        encoded = in_lines("z" * length + text)

        assert redact_text(f"body:\n{encoded}\n\nend of body") == "body:\n[redacted]\n\nend of body"


ORDINARY = [
    standard("the token expired, and the password is required"),
    standard('{"id":"42","type":"Project"}'),
    standard(random.Random(1).randbytes(300).decode("latin-1")),
    b64encode(random.Random(2).randbytes(3_000)).decode(),
    urlsafe_b64encode(random.Random(3).randbytes(3_000)).decode(),
    in_lines("nothing to see here " * 20),
    "4f3a2b1c9d8e7f6a5b4c3d2e1f0a9b8c7d6e5f4a",
    "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "integrity sha512-" + b64encode(random.Random(4).randbytes(64)).decode(),
    "01J8ZQ4Y5T9V3N7M2K6R8W0XCD",
    "6f1ed002-ab53-4f8e-9b0a-1c2d3e4f5a6b",
    "after: eyJpZCI6IjQyIiwiY3JlYXRlZF9hdCI6IjIwMjYtMDUtMDQifQ",
    "/group/subgroup/project/-/merge_requests/discussions",
    "mergeRequestDiscussionsOfTheWholeProject",
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==",
]


@pytest.mark.parametrize("text", ORDINARY)
def test_other_base64_stays_as_it_is(text: str) -> None:
    """Images, hashes, ids, cursors and texts without a secret are unchanged."""
    assert redact_text(text) == text
    assert redact_text(percent(text)) == percent(text)


def test_keys_and_values_are_searched_for_base64() -> None:
    """Keys and values are searched at any depth."""
    encoded = standard("oauth2:glpat-abcdefgh")

    assert redact({"a": [encoded, {encoded: 1}], "b": "x"}) == {
        "a": ["[redacted]", {"[redacted]": 1}],
        "b": "x",
    }


@pytest.mark.parametrize("length", range(980, 1030, 3))
def test_a_cut_leaves_no_half_of_an_encoded_secret(length: int) -> None:
    """The text is redacted before it is cut."""
    text = "x" * length + " " + standard(f"private_token={SECRET}") + " " + "z" * LENGTH

    assert not shows(clean_text(text, 1_024) + "x" * 50)
    assert "cHJpdmF0ZV90b2tlbj" not in clean_text(text, 1_024)


# --- Properties ---

AROUND = st.text(st.characters(codec="utf-8"), max_size=40)
GAPS = st.sampled_from([" ", "\n", ":", '"', "<", ">", ",", "("])


@given(
    before=AROUND, inside=AROUND, following=AROUND, after=AROUND, gaps=st.tuples(GAPS, GAPS),
    carrier=st.sampled_from(CARRIERS), encoding=st.sampled_from(sorted(BASE64)),
)  # fmt: skip
def test_no_encoded_secret_survives(
    *,
    before: str,
    inside: str,
    following: str,
    after: str,
    gaps: tuple[str, str],
    carrier: str,
    encoding: str,
) -> None:
    """Whatever text is around it, outside and inside of the base64."""
    encoded = BASE64[encoding](f"{inside} {carrier.format(SECRET)} {following}")

    redacted = redact_text(f"{before}{gaps[0]}{encoded}{gaps[1]}{after}")

    assert not shows(redacted)
    assert redact_text(redacted) == redacted


@given(st.binary(max_size=600), st.sampled_from([b64encode, urlsafe_b64encode]))
def test_bytes_that_hold_no_text_stay(data: bytes, encode: Callable[[bytes], bytes]) -> None:
    """Bytes that are not text contain no secret."""
    assume(not re.search(rb"[\t\n\r -~]{9}", data))
    text = f"<{encode(data).decode()}>"

    assert not [found for found in texts_in_base64(text) if found.text.encode() in data]
    assert redact_text(text) == text


@given(st.text("abcdef gh:\n\t0é漢", min_size=1).filter(lambda text: len(text) > 20), st.integers(0, 3))
def test_a_text_is_read_from_its_base64(text: str, letters: int) -> None:
    """The position of a decoded text is the position of its base64."""
    text = "the text is " + text
    encoded = standard(text)

    read = list(texts_in_base64(f"{'x' * letters}{encoded} x"))

    assert any(found.text.endswith(text) for found in read)
    assert all(found.end <= letters + len(encoded) for found in read)
    if letters == 0:
        assert EncodedText(0, len(encoded), text) in read


# --- The cost ---


def runs(letters: str, gap: str) -> str:
    """Many short runs of base64."""
    return (letters + gap) * (LENGTH // len(letters + gap))


HOSTILE = {
    "an image": b64encode(random.Random(5).randbytes(150_000)).decode(),
    "an image in lines": encodebytes(random.Random(6).randbytes(147_000)).decode(),
    "a text": standard("nothing to see here " * 7_500),
    "a text twice": standard(standard("nothing to see here " * 5_600)),
    "text from each of four letters": "V" * LENGTH,
    "lines of it": runs("V" * 76, "\n"),
    "texts": runs("dG9rZW4gZXhwaXJlZA", " "),
    "texts in four views": runs("dG9rZW4gZXhwaXJlZA", "%252525 "),
    "texts from each of four letters in four views": runs("V" * 15, "%252525 "),
    "texts as a path": runs("dG9rZW4gZXhwaXJlZA", "/"),
    "secrets": runs(standard("oauth2:glpat-abcdefgh"), " "),
    "quotes without an end": runs(unpadded('"token": "'), " "),
    "padding": "=" * LENGTH,
    "lines that may go on": runs("A" * 40, "\n"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_text_takes_well_under_a_second(kind: str) -> None:
    """The slowest takes half a second on the machine of the benchmarks; an image takes 0.04 s."""
    start = time.process_time()
    redact_text(HOSTILE[kind])

    assert time.process_time() - start < 2


def test_the_time_grows_linearly_with_the_text() -> None:
    """Each text is different, so that no result is reused."""
    times = []
    for many in (1_000, 10_000):
        text = " ".join(standard(f"nothing to see in {number}") for number in range(many))
        start = time.process_time()
        redact_text(text)
        times.append(time.process_time() - start)

    assert times[1] < 40 * times[0]


# --- Stored messages ---


@pytest.fixture(params=sorted(ENCODINGS))
def messages(request: pytest.FixtureRequest) -> list[str]:
    """Texts with a secret in one encoding, each recognisable by another name or position."""
    encode = ENCODINGS[request.param]
    return [f"it broke: {encode(carrier.format(SECRET))} end" for carrier in CARRIERS]


def no_secret_is_stored(world: World) -> None:
    """Assert that no column that stores foreign text contains a secret."""
    for table in ("job_error_log", "dispatch_event", "rejected_message", "job", "job_queue"):
        for row in world.rows(f"SELECT r::text FROM {table} r"):
            assert not shows(row[0])


def test_a_crawlers_failure_stores_no_secret(world: World, messages: list[str]) -> None:
    """The message, the stack trace and the context are stored without it."""
    crawler, orders = world.crawler_with_jobs(len(messages))
    frames: list[dict[str, Any]] = [
        crawler.frame("job_failed", order, error=message, isRecoverable=False, stackTrace=f"E: x\n  at {message}",
                      context={"said": [message], "page": 7})
        for order, message in zip(orders, messages, strict=True)
    ]  # fmt: skip

    world.sends(*frames)

    errors = world.rows("SELECT error_message, stack_trace, context FROM job_error_log")
    assert len(errors) == len(messages)
    for error in errors:
        assert all("[redacted]" in str(part) for part in error)
        assert error.error_message.startswith("it broke: ")
        assert error.stack_trace.startswith("E: x\n  at it broke: ")
        assert error.context["page"] == 7
    no_secret_is_stored(world)


def test_a_logged_error_stores_no_secret(world: World, messages: list[str]) -> None:
    """Also if the error is rejected, because of an unknown job or a bad field."""
    (job_id,) = world.jobs(1)
    errors = [
        {"error_type": "E", "error_message": message, "stack_trace": message, "context": {"said": message}}
        for message in messages
    ]

    world.deliver("failures.log", errors=[error | {"job_id": job_id} for error in errors])
    world.deliver("failures.log", errors=[error | {"job_id": str(ULID())} for error in errors])
    world.deliver("failures.log", errors=[error | {"job_id": job_id, "severity": 1} for error in errors])
    world.deliver("failures.log", errors=errors[0])
    world.deliver("jobs.cancel", messages=messages)

    assert len(world.errors(job_id)) == len(messages)
    reasons = [reason for _, reason in world.rejections()]
    assert (reasons.count("unknown_job"), reasons.count("invalid")) == (len(messages), len(messages) + 2)
    assert all(
        "[redacted]" in str(payload) for (payload,) in world.rows("SELECT payload FROM rejected_message")
    )
    no_secret_is_stored(world)


def test_a_rejected_frame_stores_no_secret(world: World, messages: list[str]) -> None:
    """Neither a frame of an unknown attempt nor an item that is no frame stores one."""
    crawler = world.crawler()

    world.sends(
        *(
            crawler.frame("job_failed", str(ULID()), error=message, isRecoverable=True)
            for message in messages
        ),
        *(
            crawler.frame("job_failed", str(ULID()), error=[message], isRecoverable=message)
            for message in messages
        ),
    )

    reasons = [reason for _, reason in world.rejections()]
    assert (reasons.count("unknown_assignment"), reasons.count("invalid")) == (len(messages), len(messages))
    no_secret_is_stored(world)
