"""Similar errors have the same fingerprint whatever ids, paths and lines they contain; other errors have another."""

import string
import time
from collections.abc import Callable

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from ulid import ULID

from persistence.error_log.fingerprint import DIGITS, fingerprint
from support.worlds.world import World

LENGTH = 200_000

ULIDS = st.integers(0, 2**128 - 1).map(lambda number: str(ULID.from_int(number)))
FOLDERS = st.lists(
    st.sampled_from(["app", "src", "v2", "node_modules", "my app", "x.y"]), min_size=1, max_size=4
)
PATHS = FOLDERS.map(lambda names: "/" + "/".join(name.replace(" ", "-") for name in names))
URLS = st.builds(
    "{}://{}{}?{}={}#{}".format,
    st.sampled_from(["https", "http", "gid", "postgres"]),
    st.sampled_from(["gitlab", "gitlab.example.org", "10.0.0.1:8080"]),
    PATHS,
    st.sampled_from(["page", "id", "q"]),
    st.text(string.ascii_letters + string.digits, max_size=8),
    st.text(string.ascii_letters, max_size=8),
)
QUOTED = st.text(string.ascii_letters + string.digits + " .,:/-", max_size=20)
PASSING = [
    st.integers(-(10**20), 10**20).map(str),
    st.floats(0, 1e9, allow_nan=False).map("{:f}".format),
    st.integers(0, 10**6).map("{}ms".format),
    st.datetimes().map(lambda at: at.isoformat() + "Z"),
    ULIDS,
    ULIDS.map(str.lower),
    st.uuids().map(str),
    st.binary(min_size=16, max_size=32).map(bytes.hex),
    st.from_regex(r"[a-f]{5}[0-9]{2,4}", fullmatch=True),
    st.from_regex(r"[g-z][0-9]{1,2}[g-z][0-9]{1,2}[g-z]?", fullmatch=True),
    st.binary(min_size=4, max_size=8).map(lambda address: f"0x{address.hex()}"),
    st.integers(0).map("gid://gitlab/Project/{}".format),
    URLS,
    PATHS,
    st.sampled_from([r"C:\Users\ann\x.txt", "./x/y.ts", "group/project", "ann@example.org"]),
    *(QUOTED.map(quotes.format) for quotes in ('"{}"', "'{}'", "`{}`", "\u201c{}\u201d", '\\"{}\\"')),
]
"""What varies within a message, one strategy for each kind."""

BEFORE = [" ", ", ", ": ", " (", "=", "\n"]
AFTER = [" ", ", ", ": ", ") ", "; ", "\n"]
WORDS = st.text("ghijklmnopqrstuvwxyz", min_size=1, max_size=8)


@st.composite
def two_of_a_kind(draw: st.DrawFn) -> tuple[str, str]:
    """Two messages with the same words, and different varying parts between them."""
    one = two = ""
    for word in draw(st.lists(WORDS, min_size=1, max_size=6)):
        before, after = draw(st.sampled_from(BEFORE)), draw(st.sampled_from(AFTER))
        one += word + before + draw(st.one_of(PASSING)) + after
        two += word + before + draw(st.one_of(PASSING)) + after
    return one, two


@given(two_of_a_kind())
def test_varying_parts_do_not_change_the_fingerprint(messages: tuple[str, str]) -> None:
    """Numbers, times, ids, URLs, paths and quoted values are interchangeable."""
    one, two = messages

    assert fingerprint("Error", one) == fingerprint("Error", two)


@given(st.lists(WORDS, min_size=1, max_size=6), st.lists(WORDS, min_size=1, max_size=6))
def test_other_words_change_the_fingerprint(one: list[str], two: list[str]) -> None:
    """Also the same words in another order."""
    assume(one != two)

    assert fingerprint("Error", " ".join(one)) != fingerprint("Error", " ".join(two))


@given(st.text(), st.text(), st.text())
def test_another_type_changes_the_fingerprint(one: str, two: str, message: str) -> None:
    """Whatever the message is."""
    assume(one != two)

    assert fingerprint(one, message) != fingerprint(two, message)


@given(st.text(), st.text(), st.none() | st.text())
def test_a_fingerprint_is_sixteen_hexadecimal_digits(
    error_type: str, message: str, trace: str | None
) -> None:
    """For any text, and the same each time."""
    found = fingerprint(error_type, message, trace)

    assert len(found) == DIGITS
    assert set(found) <= set(string.hexdigits.lower())
    assert found == fingerprint(error_type, message, trace)


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("ERR_HTTP2_STREAM_ERROR", "ERR_HTTP2_SESSION_ERROR"),
        ('GET /a: 404 {"message":"404 Project Not Found"}', 'GET /a: 401 {"message":"401 Unauthorized"}'),
        (r"{\"error\": \"no such user\", \"id\": \"7\"}", r"{\"error\": \"no such group\", \"id\": \"7\"}"),
        ("it can't be read", "it can't be written"),
        ("défaut", "défi"),
    ],
)
def test_words_within_names_and_answers_change_the_fingerprint(one: str, two: str) -> None:
    """A name that contains a number counts, and so does the quoted message of a server's error."""
    assert fingerprint("Error", one) != fingerprint("Error", two)


# --- Stack traces ---

Writer = Callable[[list[str], str, int], str]


def python(functions: list[str], folder: str, line: int) -> str:
    """A trace of Python, of an error with a cause."""
    frames = [f'  File "{folder}/{name}.py", line {line}, in {name}\n    call({line})' for name in functions]
    cause = 'Traceback (most recent call last):\n  File "x.py", line 1, in cause\nKeyError: 7\n\n'
    again = "During handling of the above exception, another exception occurred:\n\n"
    return "\n".join([cause + again + "Traceback (most recent call last):", *reversed(frames), f"E: {line}"])


def node(functions: list[str], folder: str, line: int) -> str:
    """A trace of Node and Bun."""
    frames = [f"    at async {name} (file://{folder}/{name}.ts:{line}:{line + 1})" for name in functions]
    return "\n".join([f"TypeError: {line}", *frames])


def bundled(functions: list[str], folder: str, line: int) -> str:
    """A trace with a hash in the file name."""
    return "\n".join(f"    at {name} ({folder}/index-{line:08x}.js?t=x{line}:{line}:1)" for name in functions)


def safari(functions: list[str], folder: str, line: int) -> str:
    """A trace of JavaScriptCore."""
    return "\n".join(f"{name}@{folder}/{name}.js:{line}:{line}" for name in functions)


def java(functions: list[str], _folder: str, line: int) -> str:
    """A trace of Java."""
    return "\n".join(
        [f"E: {line}", *(f"\tat org.example.Crawl.{name}(Crawl.java:{line})" for name in functions)]
    )


def ruby(functions: list[str], folder: str, line: int) -> str:
    """A trace of Ruby."""
    return "\n\tfrom ".join(f"{folder}/crawl.rb:{line}:in 'Crawl#{name}'" for name in functions)


def go(functions: list[str], folder: str, line: int) -> str:
    """A trace of Go."""
    frames = [
        f"main.{name}(0x{line:x}, 0x{line:x})\n\t{folder}/main.go:{line} +0x{line:x}" for name in functions
    ]
    return "\n".join([f"goroutine {line} [running]:", *frames])


def prose(functions: list[str], folder: str, line: int) -> str:
    """A trace in an unknown format."""
    return "\n".join(f"in <{name}> of {folder}/x at {line}" for name in functions)


WRITERS = [python, node, bundled, safari, java, ruby, go, prose]
FUNCTIONS = st.lists(
    st.sampled_from(["parse", "fetch", "step1", "step2", "walk", "run"]), min_size=3, max_size=5
)
LINES = st.integers(1, 2**31)


@pytest.mark.parametrize("writer", WRITERS)
@given(
    functions=FUNCTIONS, folders=st.tuples(FOLDERS, FOLDERS), lines=st.tuples(LINES, LINES), deeper=FUNCTIONS
)
def test_lines_and_folders_of_a_trace_do_not_change_the_fingerprint(
    writer: Writer,
    functions: list[str],
    folders: tuple[list[str], list[str]],
    lines: tuple[int, int],
    deeper: list[str],
) -> None:
    """And neither do the callers of the innermost three functions."""
    if writer in (safari, ruby, go, prose):  # formats in which a folder with a space has no clear beginning
        folders = ([n.replace(" ", "-") for n in folders[0]], [n.replace(" ", "-") for n in folders[1]])
    one = writer(functions[:3], "/" + "/".join(folders[0]), lines[0])
    two = writer(functions[:3] + deeper, "/" + "/".join(folders[1]), lines[1])

    assert fingerprint("Error", "it broke", one) == fingerprint("Error", "it broke", two)


@pytest.mark.parametrize("writer", WRITERS)
@given(functions=FUNCTIONS, other=st.sampled_from(["parse", "seek", "leap"]), line=LINES)
def test_another_top_frame_changes_the_fingerprint(
    writer: Writer, functions: list[str], other: str, line: int
) -> None:
    """Also if everything else is the same."""
    assume(functions[0] != other)
    one, two = (writer([top, *functions[1:]], "/app", line) for top in (functions[0], other))

    assert fingerprint("Error", "it broke", one) != fingerprint("Error", "it broke", two)


def test_a_missing_trace_changes_the_fingerprint() -> None:
    """An error with a trace differs from the same error without one."""
    assert fingerprint("Error", "it broke") != fingerprint("Error", "it broke", "    at f (x.ts:1:2)")


HOSTILE = [
    *(
        '"',
        "'",
        "`",
        '\\"',
        "\\",
        "a\\",
        "\u201c",
        "\u2018",
        '"message":"',
        '"error":',
        '\\"error\\":\\"',
        "a' ",
        " 'a",
    ),
    *(
        "a",
        "a/",
        "/",
        "\\/",
        "a:",
        "a://",
        "://",
        "a@",
        "@",
        "0",
        "0x",
        "0xa",
        "a0",
        "-",
        "(",
        "((/",
        "?",
        "a?",
        ".",
    ),
    *(
        "deadbeef",
        "deadbeef-",
        "deadbeef-dead-",
        "\n",
        "\n ",
        "\r",
        "\nat ",
        "\nat(",
        "\n\t",
        "\nfrom ",
        "\n#1 a:1",
    ),
    *(
        '\n File "',
        '\nFile "a", line 1',
        '\nFile "a/',
        "\n| + ",
        "\na(1",
        "\na:1",
        "\n#1 ",
        "\u00e9",
        "\ud800",
        "\0",
    ),
]


@pytest.mark.parametrize("piece", HOSTILE)
def test_a_hostile_text_takes_no_longer_than_an_ordinary_one(piece: str) -> None:
    """The slowest takes a quarter of a second; at quadratic cost the fastest would take minutes."""
    text = (piece * (LENGTH // len(piece) + 1))[:LENGTH]

    start = time.process_time()
    fingerprint(text, text, text)

    assert time.process_time() - start < 2


# --- Stored errors ---


def test_every_error_row_gets_the_fingerprint_of_its_stored_text(world: World) -> None:
    """Errors of crawlers, the gateway and Crawlyard; a secret is redacted first, so that it does not count."""
    crawler, (order,) = world.crawler_with_jobs()
    (job_id,) = [id_ for (id_,) in world.rows("SELECT id FROM job")]
    trace = "E: x\n    at crawl (/app/crawl.ts:{}:1)"
    for number, token in enumerate(("glpat-abcdefghij0123456789", "glpat-zyxwvutsrq9876543210")):
        world.deliver(
            "failures.log",
            errors=[
                {
                    "job_id": job_id,
                    "error_type": "GatewayError",
                    "error_message": f"token {token} refused for issue {number}",
                    "stack_trace": trace.format(number),
                }
            ],
        )
    crawler.fails(order, error="issue 7 broke", errorType="TypeError", stackTrace=trace.format(9))
    world.deliver("jobs.cancel", job_ids=[job_id])
    world.assign()

    found = [(e.error_type, e.fingerprint) for e in world.errors(job_id)]
    assert found == [
        (
            "GatewayError",
            fingerprint("GatewayError", "token [redacted] refused for issue 0", trace.format(0)),
        ),
        ("GatewayError", found[0][1]),
        ("TypeError", fingerprint("TypeError", "issue 8 broke", trace.format(1))),
    ]
    assert found[0][1] != found[2][1]
