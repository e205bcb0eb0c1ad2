"""Secrets in texts are found by their shape and by their name, and nothing else is redacted."""

import re
import time
from collections.abc import Iterator
from importlib import import_module
from itertools import cycle, product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from persistence.error_log import fingerprint
from persistence.sanitize import (
    base64_text,
    encodings,
    escaping,
    secret_layouts,
    secret_patterns,
    secret_shapes,
)
from persistence.sanitize import text as redaction
from persistence.sanitize.text import redact_text
from support.depth import deep
from support.secrets import HOSTILE_TEXT, MEBIBYTE, PLANTED, shows_a_secret

LENGTH = MEBIBYTE if deep() else MEBIBYTE // 8
BOUND_S = max(1.0, 5 * LENGTH / MEBIBYTE)
"""
CPU seconds. At quadratic cost a mebibyte would take minutes, and an eighth of it seconds. Less than a second would
measure the collector, too.
"""

EXAMPLES = {
    # Tokens of GitLab and others, by their shape
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
    # Parameters, forms, JSON and similar text
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
    # Encoded once or twice, or escaped inside another text
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
    """Text without a secret is unchanged, so that errors stay readable."""
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
    *(
        "token',",
        "token', '",
        "token>",
        "<token >a",
        "token </",
        "--token ",
        "--a-",
        "-u a:",
        "user:a",
        "token:\n a",
    ),
    *(
        "token:\n ",
        "machine a login b ",
        "default ",
        "login a ",
        "auth=",
        "pwd=a&",
        "session",
        "?sig=",
        "sk-",
        "sk-a",
    ),
    *(
        "eyJaaaaaaaaaaaaaaaaaaa\n",
        "gl",
        "xox",
        "AT",
        "&#103;",
        "\\147",
        "\x1b[",
        "\x1b]",
        "\u200b",
        "4",
        "41",
        "MFRGG",
    ),
    *(
        "mfrgg",
        "---- BEGIN ",
        "Private-Lines: 1\n",
        "<key>token</key>",
        'token" value=',
        "unexpected token: a ",
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


BEFORE = ["", "https%3A//u:"]
CASES = list(product(HOSTILE, BEFORE)) if deep() else list(zip(HOSTILE, cycle(BEFORE), strict=False))
"""Every piece after each beginning; in the short form after one, in turn."""


@pytest.mark.parametrize(("piece", "before"), CASES)
def test_a_hostile_mebibyte_takes_no_longer_than_an_ordinary_one(piece: str, before: str) -> None:
    """
    No expression reads the same characters again and again.

    The slowest takes 0.6 s of CPU on the machine of the benchmarks; at quadratic cost the fastest would take minutes.
    """
    text = (before + piece * (LENGTH // len(piece)))[:LENGTH]

    start = time.process_time()
    redact_text(text)

    assert time.process_time() - start < BOUND_S


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
    """However many repeats its expression needs, and in linear time."""
    text = before + piece * (LENGTH // len(piece)) + after

    start = time.process_time()
    redacted = redact_text(text)

    assert time.process_time() - start < BOUND_S
    assert redacted.endswith(f"[redacted]{after}")
    assert len(redacted) < 100


def repeated_groups(parsed: Any) -> Iterator[str]:
    """The groups that a parsed expression repeats possessively or without limit."""
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
    """The parse tree of an expression."""
    return import_module("re._parser").parse(expression, flags)


@pytest.mark.parametrize(
    "expression", ["(?:ab)*+", "x(?:y(?:a|bc)?+)", "(?=(?:.(?!D))++)", "(?>a+)b", "(?:a|b{2})*", "(?:ab)+?"]
)
def test_a_possessive_or_unbounded_group_is_detected(expression: str) -> None:
    """At any depth."""
    assert list(repeated_groups(parsed(expression)))


def test_no_expression_repeats_a_group_possessively_or_without_bound() -> None:
    """CPython before 3.11.5 mis-matches the first (python/cpython#106052); the second takes unlimited memory."""
    modules = (
        *(redaction, secret_patterns, secret_shapes, secret_layouts),
        *(escaping, base64_text, encodings, fingerprint),
    )
    expressions = [v for module in modules for v in vars(module).values() if isinstance(v, re.Pattern)]
    expressions += [rule.expression for rule in (*secret_shapes.SHAPES, *secret_layouts.LAYOUTS)]
    expressions += secret_patterns._CONTINUATIONS.values()

    assert len(expressions) > 45
    for expression in expressions:
        assert not list(repeated_groups(parsed(expression.pattern, expression.flags)))


# --- Properties ---


@given(HOSTILE_TEXT)
def test_redacting_a_text_is_idempotent(text: str) -> None:
    """Whatever the text contains."""
    once = redact_text(text)

    assert redact_text(once) == once


@given(st.text(), PLANTED, st.text(), st.sampled_from([" ", "\n", "\t"]))
def test_no_planted_secret_survives_in_a_text(before: str, planted: str, after: str, gap: str) -> None:
    """In any encoding, whatever text is around it."""
    assert not shows_a_secret(redact_text(f"{before}{gap}{planted}{gap}{after}"))
