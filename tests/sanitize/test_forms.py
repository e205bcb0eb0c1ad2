"""Secrets are found in each form in which crawlers have sent them; what only looks like one stays readable."""

from base64 import b32encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from persistence.sanitize.json_values import redact
from persistence.sanitize.secret_patterns import own_shapes
from persistence.sanitize.text import redact_text
from persistence.settings import settings

VALUE = "0f9a3c5e7b1d2f4a6c8e0b9d"
TOKEN = "glpat-Qw3rTy9UiOpAsDfGhJkL"
HEX, BASE32 = TOKEN.encode().hex(), b32encode(TOKEN.encode()).decode()
JWT_LINES = "eyJhbGciOiJIUzI1NiIsInR5\n  cCI6IkpXVCJ9.eyJzdWIiOiI\n  xMjM0NTY3ODkwIn0.SflKxwR"

FORMS = {
    # Pairs
    f"rawHeaders: ['Private-Token', '{VALUE}']": "rawHeaders: ['Private-Token', '[redacted]']",
    f"[('PRIVATE-TOKEN', '{VALUE}')]": "[('PRIVATE-TOKEN', '[redacted]')]",
    '["Authorization", "x"], ["Host", "h"]': '["Authorization", "[redacted]"], ["Host", "h"]',
    f'["access_token",\n  "{VALUE}"]': '["access_token",\n  "[redacted]"]',
    # Markup
    f"<access_token>{VALUE}</access_token>": "<access_token>[redacted]</access_token>",
    f'<ns:password type="text">{VALUE}</ns:password>': '<ns:password type="text">[redacted]</ns:password>',
    f"<secret><![CDATA[{VALUE}]]></secret>": "<secret><![CDATA[[redacted]]]></secret>",
    f"<key>token</key><string>{VALUE}</string>": "<key>token</key><string>[redacted]</string>",
    f'<input name="authenticity_token" value="{VALUE}">': '<input name="authenticity_token" value="[redacted]">',
    # YAML
    f"gitlab:\n  token:\n    {VALUE}\n  host: h": "gitlab:\n  token:\n    [redacted]\n  host: h",
    f"password: |\n  {VALUE}\nx: 1": "password: [redacted]\n  [redacted]\nx: 1",
    # Commands and files
    f"curl -u user:{VALUE} https://h/x": "curl -u user:[redacted] https://h/x",
    f"curl --user 'user:{VALUE}' https://h/x": "curl --user 'user:[redacted]' https://h/x",
    f"glab auth login --token {VALUE} -h h": "glab auth login --token [redacted] -h h",
    f"machine h login u password {VALUE}": "machine h login u password [redacted]",
    f"machine h\n  login u\n  password {VALUE}\n": "machine h\n  login u\n  password [redacted]\n",
    f'{{"auths":{{"h":{{"auth": "{VALUE}"}}}}}}': '{"auths":{"h":{"auth": "[redacted]"}}}',
    # Names that mostly mean something else
    f"auth={VALUE}&x=1": "auth=[redacted]&x=1",
    "DB_PWD=hunter2 make": "DB_PWD=[redacted] make",
    "smtp_pass='hunter2'": "smtp_pass='[redacted]'",
    f"session={VALUE}; PHPSESSID={VALUE}": "session=[redacted]; PHPSESSID=[redacted]",
    "https://a.blob.example/c?sv=1&sig=abcDEF%2B0123456789%3D&x=1": "https://a.blob.example/c?sv=1&sig=[redacted]&x=1",
    # Tokens and keys of others
    f"jwt: |\n  {JWT_LINES}\nend: 1": "jwt: |\n  [redacted]\nend: 1",
    "-----BEGIN PGP PRIVATE KEY BLOCK-----\n\nlQOYBF\n-----END PGP PRIVATE KEY BLOCK-----": (
        "-----BEGIN PGP PRIVATE KEY BLOCK-----[redacted]-----END PGP PRIVATE KEY BLOCK-----"
    ),
    "---- BEGIN SSH2 ENCRYPTED PRIVATE KEY ----\nAAAA\n---- END": (
        "---- BEGIN SSH2 ENCRYPTED PRIVATE KEY ----[redacted]---- END"
    ),
    "Public-Lines: 1\nAAAA\nPrivate-Lines: 2\nAAAA\nBBBB\nPrivate-MAC: 00": (
        "Public-Lines: 1\nAAAA\nPrivate-Lines: 2\n[redacted]Private-MAC: 00"
    ),
    **{
        f"of {token} x": "of [redacted] x"
        for token in (
            "xoxb-" + "1234567890-abcdefGHIJ",
            "AIza" + "SyA1234567890abcdefghijklmnopqrstuvw",
            "ya29." + "a0AfH6SMBabcdefgh",
            "GOCSPX-" + "abcdefghijklmnop",
            "sk_live" + "_4eC39HqLyjWDarjtT1zdp7dc",
            "npm_" + "abcdefghijklmnopqrstuvwxyz0123456789",
            "pypi-" + "AgEIcHlwaS5vcmcCJDAwMDAwMDAw",
            "ATATT" + "3xFfGF0abcdefghijklmnop_qrst=ABCDEF01",
            "sk-" + "proj-abcdefghij0123456789",
            "hf_" + "abcdefghijklmnopqrstuvwx",
        )
    },
    # Encodings
    f"{HEX} {HEX.upper()} a{HEX}": "[redacted] [redacted] a[redacted]",
    f"{BASE32} {BASE32.lower()}": "[redacted]====== [redacted]======",
    TOKEN.replace("g", "&#103;", 1): "[redacted]",
    TOKEN.replace("g", "&#x67", 1): "[redacted]",
    TOKEN.replace("g", "\\u{67}", 1): "[redacted]",
    TOKEN.replace("g", "\\U00000067", 1): "[redacted]",
    TOKEN.replace("g", "%u0067", 1): "[redacted]",
    TOKEN.replace("g", "\\147", 1): "[redacted]",
    f"{TOKEN[:9]}\u200b{TOKEN[9:]} x": "[redacted] x",
    f"{TOKEN[:4]}%E2%80%8B{TOKEN[4:]} x": "[redacted] x",
    f"\x1b[1;31m{TOKEN[:9]}\x1b[0m{TOKEN[9:]} x": "[redacted] x",
    f"\\u001b[31m{TOKEN[:2]}\\u001b[0m{TOKEN[2:]} x": "[redacted] x",
    f"{TOKEN[:9]}\0{TOKEN[9:]} x": "[redacted] x",
}

NO_SECRETS = [
    *("page_token=3", "next_token: 42", "nextPageToken=abc", '{"next_token": "42"}'),
    *("group/secret: 404", "GET /group/token: 403", "Unexpected token: 'foo'", "unexpected token: }"),
    *(
        "PWD=/srv/app",
        "pass=3 fail=0",
        "session=closed",
        "auth=basic",
        "oauth=1",
        "bypass=abcd",
        "x/auth: 401",
    ),
    *("scopes: ['token', 'secret', 'api']", "SyntaxError: Unexpected token:\n    at Object.parse (a.js:1)"),
    *("docker run -u 1000:1000 x", "git --no-pager log --tokens", "password:\n  required\n"),
    *(
        "<token>",
        "commit 3f786850e387550fdab836ed7e6dc881de23001b",
        "01JD8XKZ5T7V0Q3W9R2N4M6P8S",
        "\x1b[31mred\x1b[0m",
    ),
    *(
        "uncharacteristically",
        "INTERNATIONALIZATION",
        "zero\u200bwidth",
        "https://h/sk-learn-documentation-of-things",
    ),
]


@pytest.mark.parametrize(("text", "expected"), FORMS.items())
def test_a_secret_is_found_in_each_form(text: str, expected: str) -> None:
    """The text around it stays, and redacting again changes nothing."""
    assert redact_text(text) == expected
    assert redact_text(expected) == expected


@pytest.mark.parametrize("text", NO_SECRETS)
def test_what_is_no_secret_stays_readable(text: str) -> None:
    """Pages, statuses, syntax errors, counts, directories and words."""
    assert redact_text(text) == text


def test_values_under_weak_names_are_redacted_if_they_look_like_a_secret() -> None:
    """In JSON as in texts; a header's value is found in a flat list of headers too."""
    value = {
        "auth": VALUE,
        "db_pwd": "hunter2",
        "session": VALUE,
        "pass": 3,
        "pwd": "/srv",
        "oauth": "x",
        "page_token": 3,
        "next_token": "42",
        "group/secret": 404,
        "token": 42,
        "headers": ["Host", "h", "Private-Token", VALUE, "Accept", "*/*"],
    }

    assert redact(value) == {
        "auth": "[redacted]",
        "db_pwd": "[redacted]",
        "session": "[redacted]",
        "pass": 3,
        "pwd": "/srv",
        "oauth": "x",
        "page_token": 3,
        "next_token": "42",
        "group/secret": 404,
        "token": "[redacted]",
        "headers": ["Host", "h", "Private-Token", "[redacted]", "Accept", "*/*"],
    }


def test_tokens_with_an_operators_own_prefix_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The prefixes of a setting, as a GitLab's administrator may choose them."""
    assert redact_text("of acme-Qw3rTy9UiOpAsDfGhJkL.") == "of acme-Qw3rTy9UiOpAsDfGhJkL."

    monkeypatch.setenv("CRAWLYARD_TOKEN_PREFIXES", "acme-,corp_pat.")
    settings.cache_clear()
    own_shapes.cache_clear()

    assert redact_text("of acme-Qw3rTy9UiOpAsDfGhJkL.") == "of [redacted]."
    assert redact_text("of corp_pat.Qw3rTy9UiOpAsDfGhJkL x") == "of [redacted] x"
    monkeypatch.undo()
    settings.cache_clear()
    own_shapes.cache_clear()


@given(st.sampled_from(list(FORMS)), st.text(max_size=20), st.sampled_from([" ", "\n"]))
def test_redacting_a_form_is_idempotent(form: str, after: str, gap: str) -> None:
    """Whatever follows."""
    once = redact_text(form + gap + after)

    assert redact_text(once) == once
