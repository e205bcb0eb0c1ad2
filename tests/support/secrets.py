"""Texts that contain secrets, or look as if they did, in all encodings, and a check that no secret shows."""

import json
from collections.abc import Callable
from urllib.parse import quote, quote_plus, unquote_plus

from hypothesis import strategies as st

MEBIBYTE = 1024 * 1024

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
            "dG9rZW49",
            "Z2xwYXQtYWJjZA",
            "VVVV",
            "[cut]",
            "\0",
            "\ud800",
        ),
    ]
)
HOSTILE_TEXT = st.lists(FRAGMENTS, max_size=30).map("".join) | st.text()

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
MAX_PASSES = [
    "glpat-{}",
    "gloas-{}",
    "gldt-{}",
    "glrt-{}",
    "glptt-{}",
    "GR1348941{}",
    "eyJhbGciOiJub25lIn0.{}.{}",
]
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
    st.sampled_from(MAX_PASSES),
    SECRETS,
    st.sampled_from(ENCODINGS),
)


def shows_a_secret(value: object) -> bool:
    """True if either end of a planted secret is readable, in any encoding."""
    text = str(value)
    return any(
        "Zq7" in form or "qZ7w" in form
        for form in (text, unquote_plus(text), unquote_plus(unquote_plus(text)))
    )
