"""What is kept of words that others chose: no secret, nothing that Postgres refuses, nothing without bound."""

import json
import math
import re
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from importlib import import_module
from typing import Any
from urllib.parse import quote, quote_plus, unquote_plus
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from persistence import base64_text, fingerprint, redaction
from persistence.redaction import redact_text
from persistence.storable import JSON, clean_text, redact, storable

MEBIBYTE = 1024 * 1024

EXAMPLES = {
    # GitLab's and others' tokens, by their looks
    "glpat-abcDEF_123456 was refused": "[redacted] was refused",
    "routable glpat-abcDEF.01.0a1b2c3d4.": "routable [redacted].",
    "gloas-0a1b2c3d gldt-0a1b2c3d glrt-0a1b2c3d": "[redacted] [redacted] [redacted]",
    "glcbt-64_0a1b2c3d,glptt-0a1b2c3d": "[redacted],[redacted]",
    "glft-0a1b2c3d/glimt-0a1b2c3d/glagent-0a1b2c3d/glsoat-0a1b2c3d": "[redacted]/[redacted]/[redacted]/[redacted]",
    "runner GR1348941abcDEF_12345": "runner [redacted]",
    "remote: ghp_0123456789abcdefABCDEF0123456789abcd": "remote: [redacted]",
    "key AKIAIOSFODNN7EXAMPLE is inactive": "key [redacted] is inactive",
    "jwt eyJhbGciOiJub25lIn0.eyJzdWIiOjF9.c2ln ended": "jwt [redacted] ended",
    "-----BEGIN RSA PRIVATE KEY-----\nMIIE-x\n-----END RSA PRIVATE KEY-----": (
        "-----BEGIN RSA PRIVATE KEY-----[redacted]-----END RSA PRIVATE KEY-----"
    ),
    # Headers
    "Authorization: Bearer abc.def-ghi refused": "Authorization: Bearer [redacted] refused",
    "authorization: Basic dXNlcjpwYXNz\r\nHost: h": "authorization: Basic [redacted]\r\nHost: h",
    'Proxy-Authorization: Digest username="u", response="6629"\nHost: h': "Proxy-Authorization: [redacted]\nHost: h",
    "curl -H 'Authorization: Bearer abc' https://h/x": "curl -H 'Authorization: Bearer [redacted]' https://h/x",
    "PRIVATE-TOKEN: abc": "PRIVATE-TOKEN: [redacted]",
    "Job-Token:abc, Deploy-Token: def": "Job-Token:[redacted], Deploy-Token: [redacted]",
    "Cookie: _gitlab_session=abc; theme=dark\r\nHost: h": "Cookie: [redacted]\r\nHost: h",
    "Set-Cookie: sid=abc; Path=/; HttpOnly": "Set-Cookie: [redacted]",
    "seen _gitlab_session=0123abcd; known=1": "seen _gitlab_session=[redacted]; known=1",
    r"a log\nCookie: a=b; c=d\nHost: h": r"a log\nCookie: [redacted]\nHost: h",
    "Authorization header was: bearer 0123456789abcdef": "Authorization header was: bearer [redacted]",
    # Parameters, forms, JSON, and text like them
    "GET /api?private_token=abc&page=2 HTTP/1.1": "GET /api?private_token=[redacted]&page=2 HTTP/1.1",
    "client_secret=a&refresh_token=b&code=c&state=d": (
        "client_secret=[redacted]&refresh_token=[redacted]&code=[redacted]&state=d"
    ),
    '{"access_token": "a b", "expires_in": 7200}': '{"access_token": "[redacted]", "expires_in": 7200}',
    '{"password":"a\\"b","x":1}': '{"password":"[redacted]","x":1}',
    '{"password":["a"],"token":12345}': '{"password":["[redacted]"],"token":[redacted]}',
    "{ accessToken: 'abc', id: 7 }": "{ accessToken: '[redacted]', id: 7 }",
    ':password=>"abc", "api_key" => "def"': ':password=>"[redacted]", "api_key" => "[redacted]"',
    "(job_token=abc)": "(job_token=[redacted])",
    "user[password]=abc&x=1": "user[password]=[redacted]&x=1",
    "CI_JOB_TOKEN=abc make": "CI_JOB_TOKEN=[redacted] make",
    "token: Bearer abc, {token: Bearer abc}": "token: Bearer [redacted], {token: Bearer [redacted]}",
    "token: password: abc def": "token: [redacted] [redacted] def",
    "password=pa'ss\"word": "password=[redacted]",
    "grant code: 0123456789abcdef0123456789": "grant code: [redacted]",
    # URLs
    "https://user:pass@gitlab.example/a": "https://[redacted]@gitlab.example/a",
    "https://oauth2:abc@gitlab.example/a.git": "https://[redacted]@gitlab.example/a.git",
    "https://abc@gitlab.example": "https://[redacted]@gitlab.example",
    "postgresql+psycopg://u:p@ss@db/crawlyard": "postgresql+psycopg://[redacted]@db/crawlyard",
    "postgres://u:p/a#s@db/crawlyard": "postgres://[redacted]@db/crawlyard",
    # Encoded once, twice, or as text within text
    "?q=private_token%3Dabc%26page%3D2&x=1 rest": "?q=private_token%3D[redacted]%26page%3D2&x=1 rest",
    "?h=Authorization%3A%20Bearer%20abc&x=1": "?h=Authorization%3A%20Bearer%20[redacted]&x=1",
    "?h=Authorization%3A+Bearer+abc&x=1": "?h=Authorization%3A+Bearer+[redacted]&x=1",
    "?h=Cookie%253A%2520a%253Db%253B%2520c&x=1 rest": "?h=Cookie%253A%2520[redacted]&x=1 rest",
    "?u=https%3A%2F%2Fuser%3Apass%40h%2Fx&y=1": "?u=https%3A%2F%2F[redacted]%40h%2Fx&y=1",
    "%70assword%3D%C3%A9%C2%A0abc": "%70assword%3D[redacted]",
    r'{"body":"{\"access_token\": \"abc\", \"x\": 1}"}': r'{"body":"{\"access_token\": \"[redacted]\", \"x\": 1}"}',
    "&quot;id_token&quot;:&quot;abc&quot;, ok": "&quot;id_token&quot;:&quot;[redacted]&quot;, ok",
}

ORDINARY = [
    "token expired",
    "Invalid token: expired.",
    "password authentication failed for user 'bob'",
    'FATAL: password authentication failed for user "bob"',
    "the code 404",
    'status code: 404, {"code":404,"errno":-3008}',
    "code: 'ECONNREFUSED'",
    "code=ERR_HTTP2_INVALID_SESSION_STATE",
    "error code: 0x80070005",
    "GET /callback?code=404",
    "current_token_expired: true, tokens_used: 5, max_tokens=5, token_type=x",
    '{"access_token": null}',
    "Unexpected token '<', \"<!DOCTYPE \"... is not valid JSON",
    "SyntaxError: Unexpected token < in JSON at position 0",
    "if (token === null) return Gitlab::Token::New",
    'insert on table "area_authorization" violates a foreign key',
    "area_authorization: duplicate",
    "command authorizationScope of /group/secret-santa/cookie-shop",
    "GET https://gitlab.example:8080/@user?mail=a@b.example 404",
    "ssh://git@gitlab.example/a.git and git@gitlab.example:a.git",
    "after: eyJpZCI6IjQyIn0 of KeyJsonSerializer.serialize(value)",
    "100% of C:\\new\\temp, caf\u00e9 \U0001f600 %zz &amp; &lt;",
    "asiapacificsoutheast gh_ gl- glpat-",
]


@pytest.mark.parametrize(("text", "expected"), EXAMPLES.items())
def test_a_secret_is_replaced_and_the_text_around_it_stays(text: str, expected: str) -> None:
    """Names, hosts and paths stay readable, and redacting again changes nothing."""
    assert redact_text(text) == expected
    assert redact_text(expected) == expected


@pytest.mark.parametrize("text", ORDINARY)
def test_ordinary_text_stays_as_it_is(text: str) -> None:
    """An error's text is there to be read."""
    assert redact_text(text) == text


HOSTILE = [
    *("a", "A ", "\u00e9", "%41", "%2525", "\\", '\\"', "\\u005c", "&quot;", '"', "'", "&", "@"),
    *(
        "token",
        "token=",
        "token=a&",
        "token ",
        "token   ",
        "token=,a",
        "token=\\",
        "token=[ ",
        "token: token:",
    ),
    *('token="', "token='", "token%3Da%26", "token%253Da%2526", "%5C%22token%5C%22%3A", "password=token "),
    *(
        "authorization:",
        "authorization: bearer ",
        'cookie: ="',
        "cookie:='",
        "bearer ",
        "bearer a",
        "code=",
        "&code=",
    ),
    *("://", "://:", "://a:b@", "://a", "://a'", "://a'@", "x%3A//a%40"),
    *(
        "eyJ",
        "_eyJ",
        "eyJa.",
        "glpat-",
        "glpat-.",
        "AKIA",
        "ghp_",
        "-----BEGIN ",
        "-----BEGIN PRIVATE KEY-----",
    ),
]


@pytest.mark.parametrize("before", ["", "https%3A//u:"])
@pytest.mark.parametrize("piece", HOSTILE)
def test_a_hostile_mebibyte_takes_no_longer_than_another(piece: str, before: str) -> None:
    """
    No expression goes back over what it has read.

    The longest of these takes 0.6 s of CPU on the machine of the benchmarks; at quadratic cost
    the shortest would take minutes.
    """
    text = (before + piece * (MEBIBYTE // len(piece)))[:MEBIBYTE]

    start = time.process_time()
    redact_text(text)

    assert time.process_time() - start < 5


@pytest.mark.parametrize(
    ("before", "piece", "after"),
    [
        *(('token="', piece, '"') for piece in ("\\\\", '\\"', "a\\a")),
        *(("token='", piece, "'") for piece in ("\\\\", "\\'", "a\\a")),
        *(("token=a", piece, "&x=1") for piece in ("\\", "a\\", '"a', ",a")),
        *(("token: bearer a", piece, " x") for piece in ("'a", "\\a")),
        *(("authorization: bearer a", piece, " x") for piece in ("'a", "\\a")),
        *(("cookie: ", piece, "\nx") for piece in ('="a"', "='a", "a\\")),
        *(("https://", piece, "@h") for piece in ("a", "a'", "'", "a@", "@", "'@")),
        *(("https://u:a/", piece, "@h") for piece in ("a:", ":", "/")),
        *(("-----BEGIN PRIVATE KEY-----", piece, "-----END") for piece in ("a", "-a", "--\n")),
        *(("glpat-abcd", piece, "..") for piece in ("a", ".a", ".-")),
        ("eyJhbGciOiJub25lIn0.abcd", ".", " x"),
    ],
)
def test_a_secret_of_a_mebibyte_is_found_to_its_end(before: str, piece: str, after: str) -> None:
    """However many turns its expression takes, and in linear time too."""
    text = before + piece * (MEBIBYTE // len(piece)) + after

    start = time.process_time()
    redacted = redact_text(text)

    assert time.process_time() - start < 5
    assert redacted.endswith(f"[redacted]{after}")
    assert len(redacted) < 100


def repeated_groups(parsed: Any) -> Iterator[str]:
    """What a parsed expression repeats possessively, or without bound, though it is no single character."""
    if not isinstance(parsed, (tuple, list)) and not hasattr(parsed, "data"):
        return
    match tuple(parsed):
        case operator, (_, most, repeated) if str(operator).endswith("_REPEAT"):
            single = len(repeated) == 1 and str(repeated[0][0]) in {"LITERAL", "NOT_LITERAL", "IN", "ANY"}
            if not single and (str(operator) == "POSSESSIVE_REPEAT" or most > 1_000):
                yield f"{operator} of {repeated}"
        case operator, _ if str(operator) == "ATOMIC_GROUP":
            yield str(parsed)
    for part in parsed:
        yield from repeated_groups(part)


def parsed(expression: str | bytes, flags: int = 0) -> Any:
    """What `re` makes of an expression before it compiles it."""
    return import_module("re._parser").parse(expression, flags)


@pytest.mark.parametrize(
    "expression", ["(?:ab)*+", "x(?:y(?:a|bc)?+)", "(?=(?:.(?!D))++)", "(?>a+)b", "(?:a|b{2})*", "(?:ab)+?"]
)
def test_a_possessive_or_unbounded_group_would_be_noticed(expression: str) -> None:
    """At any depth."""
    assert list(repeated_groups(parsed(expression)))


def test_no_expression_repeats_a_group_possessively_or_without_bound() -> None:
    """CPython before 3.11.5 mis-matches the first (python/cpython#106052); the other takes memory without end."""
    modules = (redaction, base64_text, fingerprint)
    expressions = [v for module in modules for v in vars(module).values() if isinstance(v, re.Pattern)]
    expressions += redaction._GOING_ON.values()

    assert len(expressions) > 25
    for expression in expressions:
        assert not list(repeated_groups(parsed(expression.pattern, expression.flags)))


# --- Values ---


def test_what_stands_under_a_secrets_name_is_replaced_whole() -> None:
    """Whatever it is and however the name is written."""
    value: JSON = {
        "accessToken": "a",
        "refresh_token": ["b"],
        "headers": {
            "Authorization": {"scheme": "c"},
            "Set-Cookie": ["d"],
            "x-gitlab-token": "e",
            "Accept": "json",
        },
        "password": 1234,
        "privateToken": "f",
        "clientSecret": "g",
        "API Key": "h",
        "code": "0123456789abcdef0123",
    }

    assert redact(value) == {
        "accessToken": "[redacted]",
        "refresh_token": "[redacted]",
        "headers": {
            "Authorization": "[redacted]",
            "Set-Cookie": "[redacted]",
            "x-gitlab-token": "[redacted]",
            "Accept": "json",
        },
        "password": "[redacted]",
        "privateToken": "[redacted]",
        "clientSecret": "[redacted]",
        "API Key": "[redacted]",
        "code": "[redacted]",
    }


def test_counts_flags_and_gaps_stay() -> None:
    """A name that only speaks of a secret hides nothing."""
    value: JSON = {
        "tokens_used": 5,
        "tokens": 7,
        "current_token_expired": True,
        "access_token_expires_at": "2030-01-01T00:00:00Z",
        "accessToken": None,
        "password": "",
        "code": "ECONNRESET",
        "secretary": "Ann",
        "area_authorization": "of account 7",
        "command": "authorizationScope",
    }

    assert redact(value) == value


def test_texts_and_names_within_a_value_are_redacted() -> None:
    """At every depth, and a header that is held as a pair."""
    value: JSON = [
        {"url": "https://h/?private_token=abc", "glpat-abcdefgh": 1},
        [["PRIVATE-TOKEN", "abc"], ["Accept", "json"]],
    ]

    assert redact(value) == [
        {"url": "https://h/?private_token=[redacted]", "[redacted]": 1},
        [["PRIVATE-TOKEN", "[redacted]"], ["Accept", "json"]],
    ]


def test_what_is_too_deep_is_left_out() -> None:
    """64 levels are kept."""
    deep: JSON = "end"
    for _ in range(100_000):
        deep = [deep]

    redacted = redact(deep)
    for _ in range(64):
        assert isinstance(redacted, list)
        (redacted,) = redacted

    assert redacted == "[too deep]"


def test_lists_that_hold_each_other_come_to_an_end() -> None:
    """Also such as would be 2**64 values written out."""
    knot: list[Any] = []
    knot += [knot, knot]

    assert size(storable(knot)) <= 65_536
    assert str(storable(knot, 100)).startswith("{'cut': '[[[[")


class _Liar:
    """An object that raises whatever it is asked, and shows a secret where it does not."""

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError(name)

    def __repr__(self) -> str:
        return "glpat-abcdefgh"

    def __eq__(self, other: object) -> bool:
        raise RuntimeError

    __hash__ = object.__hash__


class _Endless(list[int]):
    def __iter__(self) -> Iterator[int]:
        while True:
            yield 1


class _Word(str):
    __slots__ = ()

    def __str__(self) -> str:
        return "glpat-abcdefgh"

    __repr__ = __str__


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"caf\xc3\xa9 \xff", "caf\u00e9 \ufffd"),
        (memoryview(b"token=abc"), "token=[redacted]"),
        ("nul \0 and half a pair \ud83d", "nul \ufffd and half a pair \ufffd"),
        ({"a\0": "\0"}, {"a\ufffd": "\ufffd"}),
        ([math.nan, math.inf, -math.inf, 1.5], ["NaN", "Infinity", "-Infinity", 1.5]),
        (2**1000, 2**1000),
        (16**5000, "0x1" + "0" * 5000),
        ({1: "a", None: "b", (1, "c"): "d", b"e": "f"}, {"1": "a", "null": "b", '[1, "c"]': "d", "e": "f"}),
        ((1, (2,)), [1, [2]]),
        (datetime(2030, 1, 2, tzinfo=UTC), "2030-01-02 00:00:00+00:00"),
        (timedelta(seconds=90), "0:01:30"),
        (Decimal("1.50"), "1.50"),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        ([_Liar(), {"a": _Liar(), "token": _Liar()}], ["_Liar", {"a": "_Liar", "token": "[redacted]"}]),
        (_Word("plain"), "plain"),
        (ValueError("glpat-abcdefgh"), "ValueError"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_any_object_is_made_storable(value: object, expected: JSON) -> None:
    """What jsonb lacks becomes text; of what nobody knows the type's name is kept, never its own words."""
    assert storable(value) == expected


def test_what_has_no_end_is_cut() -> None:
    """A subclass may yield for ever."""
    assert storable(_Endless(), 20) == {"cut": "[1, 1, 1,"}


def test_of_ten_mebibytes_the_beginning_is_kept() -> None:
    """A long text stays a text; of anything else the beginning of its JSON is kept. Neither takes long."""
    start = time.process_time()
    text = storable("ab" * 5 * MEBIBYTE)
    value = storable({"frames": [{"type": "x", "data": "y" * 100}] * 100_000})

    assert isinstance(text, str)
    assert text == "ab" * ((len(text) - 5) // 2) + "a" * (len(text) % 2 == 0) + "[cut]"
    assert 65_530 <= size(text) <= 65_536
    assert isinstance(value, dict)
    assert list(value) == ["cut"]
    assert str(value["cut"]).startswith('{"frames": [{"type": "x", "data": "yyy')
    assert 60_000 <= size(value) <= 65_536
    assert time.process_time() - start < 5


@pytest.mark.parametrize("length", range(980, 1030))
def test_a_cut_never_leaves_half_a_secret(length: int) -> None:
    """The text is redacted first: where it is cut, what looked like nothing may have been a password."""
    text = "x" * length + " https://user:Zq7" + "y" * 50 + "qZ7w@h/ " + "z" * MEBIBYTE

    for kept in (clean_text(text, 1024), storable(text, 1024), storable([text], 1024)):
        assert "Zq7" not in str(kept)


def test_redactions_before_a_cut_do_not_pull_half_a_secret_into_view() -> None:
    """What is behind the limit moves to the front as much as the redactions before it shorten the text."""
    text = "token=" + "x" * 9_000 + " https://user:Zq7" + "y" * MEBIBYTE + "@h"

    assert "Zq7" not in clean_text(text, 1_024)


@pytest.mark.parametrize("limit", [0, 3, 5, 6, 9, 10, 11])
def test_a_text_is_cut_between_two_characters(limit: int) -> None:
    """The limit is in bytes, and no character is halved."""
    assert clean_text("\u00e9" * 10, limit) == ("\u00e9" * max((limit - 5) // 2, 0) + "[cut]")[:limit]
    assert clean_text("\u00e9" * 10, 20) == "\u00e9" * 10


# --- Properties ---

FRAGMENTS = st.sampled_from(
    [
        *(
            "token",
            "access_token",
            "Authorization",
            "cookie",
            "password",
            "code",
            "bearer",
            "basic",
            "secret",
            "s",
        ),
        *(
            ":",
            "=",
            "=>",
            "==",
            " ",
            "  ",
            "\n",
            "\t",
            "+",
            "&",
            ";",
            ",",
            "?",
            "/",
            "://",
            "@",
            "#",
            ".",
            "-",
            "_",
        ),
        *(
            '"',
            "'",
            "\\",
            '\\"',
            "\\n",
            "\\u0022",
            "&quot;",
            "%",
            "%22",
            "%3D",
            "%3A",
            "%2522",
            "%253D",
            "%20",
            "%25",
        ),
        *(
            "[",
            "]",
            "(",
            ")",
            "{",
            "}",
            "<",
            ">",
            "[redacted]",
            "redacted",
            "null",
            "expired",
            "git",
            "1",
            "404",
            "a",
        ),
        *(
            "eyJ",
            "eyJhbGciOiJub25lIn0",
            "glpat-",
            "abcdefgh",
            "0123456789abcdef",
            "user:pass",
            "[cut]",
            "\0",
            "\ud800",
        ),
    ]
)
HOSTILE_TEXT = st.lists(FRAGMENTS, max_size=30).map("".join) | st.text()

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | HOSTILE_TEXT
NAMES = HOSTILE_TEXT | st.sampled_from(["accessToken", "tokens", "code", "cookie", "id", "PRIVATE-TOKEN"])
VALUES: st.SearchStrategy[JSON] = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=20,
)
OBJECTS = st.recursive(
    SCALARS
    | st.binary()
    | st.floats()
    | st.decimals()
    | st.datetimes()
    | st.builds(_Liar)
    | st.builds(object),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner, inner)
        | st.dictionaries(SCALARS | st.binary() | st.tuples(st.floats()), inner, max_size=4)
    ),
    max_leaves=20,
)

SECRETS = st.text("ABCdef0123456789-_", min_size=4, max_size=30).map("Zq7{}qZ7w".format)
ODD_SECRETS = st.text("ABCdef0123456789-_.~+/=", min_size=4, max_size=30).map("Zq7{}qZ7w".format)
CARRIERS = [
    *(
        "?access_token={}&page=2",
        "refresh_token={}",
        "x=1&ID_TOKEN={}",
        "client_secret={};",
        "?a=b&code={}&state=c",
    ),
    *(
        '{{"accessToken": "{}", "x": 1}}',
        "{{'private_token': '{}'}}",
        '{{"a":{{"job_token":"{}"}}}}',
        "token: {}",
    ),
    *("password={} x", "api_key: {}, x", "PRIVATE-TOKEN: {}", "Deploy-Token:{}", "Authorization: Bearer {}"),
    *(
        "proxy-authorization: Basic {}",
        "AUTHORIZATION: {}",
        "Cookie: _gitlab_session={}; a=b",
        "Set-Cookie: x={}; y",
    ),
    *(
        "https://user:{}@gitlab.example/a",
        "https://oauth2:{}@gitlab.example/a.git",
        "redis://:{}@cache:6379/0",
    ),
]
LOOKS = ["glpat-{}", "gloas-{}", "gldt-{}", "glrt-{}", "glptt-{}", "GR1348941{}", "eyJhbGciOiJub25lIn0.{}.{}"]
ENCODINGS: list[Callable[[str], str]] = [
    lambda text: text,
    lambda text: quote(text, safe=""),
    lambda text: quote(quote(text, safe=""), safe=""),
    quote_plus,
    lambda text: quote_plus(quote_plus(text)),
    json.dumps,
    lambda text: json.dumps(json.dumps(text)),
    lambda text: quote_plus(json.dumps(text)),
]
PLANTED = st.builds(
    lambda carrier, secret, encode: encode(carrier.format(secret, secret)),
    st.sampled_from(CARRIERS),
    ODD_SECRETS,
    st.sampled_from(ENCODINGS),
) | st.builds(
    lambda carrier, secret, encode: encode(carrier.format(secret, secret)),
    st.sampled_from(LOOKS),
    SECRETS,
    st.sampled_from(ENCODINGS),
)


def size(value: JSON) -> int:
    """How many bytes of JSON a value is; raises where it is not JSON, or not UTF-8."""
    return len(json.dumps(value, ensure_ascii=False, allow_nan=False).encode())


def shows_a_secret(value: object) -> bool:
    """Whether either end of a planted secret can be read, in whatever encoding."""
    text = str(value)
    return any(
        "Zq7" in form or "qZ7w" in form
        for form in (text, unquote_plus(text), unquote_plus(unquote_plus(text)))
    )


@given(HOSTILE_TEXT)
def test_redacting_a_text_twice_is_redacting_it_once(text: str) -> None:
    """Whatever its letters are."""
    once = redact_text(text)

    assert redact_text(once) == once


@given(VALUES)
def test_redacting_a_value_twice_is_redacting_it_once(value: JSON) -> None:
    """Names included."""
    once = redact(value)

    assert redact(once) == once


@given(st.text(), PLANTED, st.text(), st.sampled_from([" ", "\n", "\t"]))
def test_no_planted_secret_survives_in_a_text(before: str, planted: str, after: str, gap: str) -> None:
    """In any encoding, in any company."""
    assert not shows_a_secret(redact_text(f"{before}{gap}{planted}{gap}{after}"))


@given(VALUES, PLANTED, SECRETS, st.sampled_from(["accessToken", "set-cookie", "clientSecret", "PASSWORD"]))
def test_no_planted_secret_survives_in_a_value(value: JSON, planted: str, secret: str, name: str) -> None:
    """In a text, in a name, under a name; redacted, and made storable at any length."""
    whole: JSON = [value, {"text": planted, planted: 1, name: [secret, {"a": secret}]}, [name, secret]]

    assert not shows_a_secret(json.dumps(redact(whole)))
    for limit in (40, 100, 1_000, 65_536):
        assert not shows_a_secret(json.dumps(storable(whole, limit)))


@given(OBJECTS, st.integers(16, 2_000))
def test_whatever_is_made_storable_is_json_and_bounded(value: object, limit: int) -> None:
    """It is JSON without NaN, NUL or half a pair, is UTF-8, and never raises."""
    kept = storable(value, limit)

    assert size(kept) <= limit
    assert "\\u0000" not in json.dumps(kept)


@given(OBJECTS)
def test_redacting_takes_any_object(value: Any) -> None:
    """And leaves JSON."""
    json.dumps(redact(value), allow_nan=False)


@given(HOSTILE_TEXT, st.integers(0, 200))
def test_a_cleaned_text_is_text_and_bounded(text: str, limit: int) -> None:
    """No NUL, no half a pair, no more bytes than asked for."""
    kept = clean_text(text, limit)

    assert len(kept.encode()) <= limit
    assert "\0" not in kept
