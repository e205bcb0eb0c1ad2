"""
The patterns of secrets: what a secret looks like, and which names stand before one.

A secret is recognised by its shape (`glpat-…`, a JWT: secret_shapes.py; `https://user:password@host`) or by its name
(`access_token=…`, `Authorization: …`; in other layouts: secret_layouts.py). Every expression takes linear time on
hostile text: quantifiers are possessive or bounded, and where one is neither, no two matches scan the same characters.
An expression is searched for only in a text that has a word without which it cannot match.
"""

import math
import re
import sys
from collections.abc import Iterator
from functools import cache
from typing import Final, NamedTuple

from persistence.exceptions import SettingsError
from persistence.sanitize.secret_layouts import (
    DONE,
    DOUBLE,
    HEADERS,
    LAYOUTS,
    LINE,
    NAMES,
    PLAIN,
    QUOTED,
    RUN,
    SCHEME,
    SIGN,
    SINGLE,
    is_weak_secret,
)
from persistence.sanitize.secret_shapes import SHAPES, Rule, shape_of_prefixes, wrapped_jwts
from persistence.settings import settings

LONGEST_NAME: Final = 64
"""A value may itself be a name; this much of its end is searched again."""

# --- Secrets recognised by the name before them, in lower case ---

_NAMED = re.compile(
    rf"""
    (?: {NAMES} ) {SIGN}
    (?: {QUOTED}
      | (?: {SCHEME} | (?!{SCHEME}) )
        (?! {PLAIN} | {DONE}[)}}\]]*+(?:[\s&;,"'<>\\]|\Z) ) (?P<bare> {RUN} )
    )
    """,
    re.VERBOSE | re.ASCII | re.DOTALL,
)
_HEADER = re.compile(
    rf"""
    (?: {HEADERS} ) {SIGN}
    (?: {QUOTED}
      | (?! {DONE}(?:[\s&;,"'<>\\]|\Z) )
        (?: (?:bearer|basic|token|jwt)[ \t+]++ (?P<run> {RUN} )
          # Any other scheme, and cookies: up to the end of the line or of the quoted text.
          | (?P<line> {LINE} )
        )
    )
    """,
    re.VERBOSE | re.ASCII | re.DOTALL,
)
_BEARER = re.compile(
    r"(?:bearer|basic)[ \t+]++(?=[a-z._~/+=-]{0,64}\d)(?P<bearer>[\w.~+/=-]{16,}+)", re.ASCII
)
# True if an "@" follows before any closing quote. The last such "@" counts.
_BEFORE_AT = r"""(?! [^\s/?\#"<>@\\]*?'[,)\]}] ) (?= [^\s/?\#"<>@\\]*+@ )"""
_USER_INFO = re.compile(
    rf"""
    ://(?!git@)
    (?: {_BEFORE_AT} (?P<user> [^\s/?\#"<>\\]*? )@(?! {_BEFORE_AT} )
        # A password may contain an unescaped slash. What looks like a port is a port.
      | (?!\[)[^\s/?\#"'<>@:]*+:(?!\d{{1,5}}[/?\#])(?! [^\s"'<>@\\]*?:// )(?P<slashed> [^\s"'<>@\\]*+ )@
    )
    """,
    re.VERBOSE | re.ASCII,
)

# --- `code`, which mostly is an error code. An OAuth code is in a query, or is long and contains digits ---

_GRANT = r"""(?!err_|\d+\b)(?=[a-z._~/+%-]{0,64}\d)[\w.~/+%-]{20,}+"""
_CODE = re.compile(
    rf"""
      (?: [?&]code= | \Acode=(?=[^\s&]++&) ) (?!\d{{1,4}}(?:[\s&"'<>#]|\Z)) (?P<query>[^\s&"'<>\#]++)
    | code(?<![a-z0-9_-]code)["']?[ ]{{0,8}}[:=][ ]{{0,8}}["']?(?P<grant>{_GRANT})
    """,
    re.VERBOSE | re.ASCII,
)
_GRANT_ALONE = re.compile(_GRANT, re.ASCII)

_NAME_WORDS = (
    *("token", "key", "passw", "secret", "authorization", "cookie", "bearer", "credential", "passphrase"),
    *("_gitlab_session", "client_assertion", "code_verifier", "-signature"),
)

_IN_LOWER_CASE = (
    Rule((), _NAMED, is_named=True),
    Rule(("authorization", "cookie"), _HEADER, is_named=True),
    Rule(("bearer", "basic"), _BEARER),
    Rule(("@",), _USER_INFO),
    Rule(("code",), _CODE),
    *LAYOUTS,
)

# --- What is no secret in spite of its name ---

_SHORT = 16
_PAGE = re.compile(r"(?:page|next|previous|continuation|sync|cursor)[ _-]?\Z", re.ASCII)
_SYNTAX = re.compile(r"(?<!\w)(?:unexpected|illegal|expected)[ _]\Z", re.ASCII)
_PATH = re.compile(r"[\w.-]/\Z", re.ASCII)
_STATUS = re.compile(r"[1-5]\d\d", re.ASCII)


def _is_ordinary(text: str, name: int, start: int, end: int) -> bool:
    """
    True if what stands under a name, in lower case, is no secret.

    The short token of a page; what a parser did not expect; and the status of a path that ends in such a name.
    """
    before = text[max(name - 24, 0) : name]
    if (
        end - start < _SHORT
        and text.startswith("token", name)
        and (_PAGE.search(before) or _SYNTAX.search(before))
    ):
        return True
    return _STATUS.fullmatch(text, start, end) is not None and _PATH.search(before) is not None


_CONTINUATIONS = {
    group: re.compile(turns, re.VERBOSE | re.ASCII | re.DOTALL)
    for group, turns in (
        ("double", DOUBLE),
        ("single", SINGLE),
        ("bare", RUN),
        ("run", RUN),
        ("line", LINE),
    )
}
"""By group name, the expression that continues a group that ended at the limit of its repeats."""

_SECRET_KEY = re.compile(
    rf"(?:{NAMES}|{HEADERS}|jwt|proxyauthorization)(?P<plural>s)?\Z", re.VERBOSE | re.ASCII
)

_SECRET_HEADER = re.compile(rf"[a-z]{{1,20}}-token|{HEADERS}", re.VERBOSE | re.ASCII)

_LOWER_CASE = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}
"""Not `str.lower`, which may change the length of a text that is not ASCII: positions must stay valid."""


class FoundSecret(NamedTuple):
    """Positions in a text."""

    name: int
    """Where the name before the secret begins; *start* if there is none."""
    start: int
    end: int


def find_secrets(text: str) -> Iterator[FoundSecret]:
    """The secrets in a text as it stands, without removing any encoding."""
    for rule in (*SHAPES, *own_shapes()):
        if rule.may_match(text):
            yield from _found(rule.expression, text)
    for start, end in wrapped_jwts(text):
        yield FoundSecret(start, start, end)
    lower = text.lower() if text.isascii() else text.translate(_LOWER_CASE)
    is_named = any(word in lower for word in _NAME_WORDS)
    for rule in _IN_LOWER_CASE:
        if (is_named or not rule.is_named) and (not rule.words or rule.may_match(lower)):
            yield from _found(rule.expression, lower)


@cache
def own_shapes() -> tuple[Rule, ...]:
    """The shapes of tokens with prefixes of the operator's; none in a process without settings."""
    try:
        prefixes = settings().token_prefixes
    except SettingsError:
        return ()
    return (shape_of_prefixes(tuple(prefixes.split(","))),) if prefixes else ()


def _found(expression: re.Pattern[str], text: str) -> Iterator[FoundSecret]:
    for match, end in _matches(expression, text):
        start = match.start(match.lastgroup or 0)
        if expression is _NAMED and _is_ordinary(text, match.start(), start, end):
            continue
        # The brackets around `(token=abc)` do not belong to the token.
        secret = text[start:end].rstrip(")}]") if match.lastgroup == "bare" else text[start:end]
        yield FoundSecret(match.start(), start, start + len(secret))


def _matches(expression: re.Pattern[str], text: str) -> Iterator[tuple[re.Match[str], int]]:
    """Each match whose last group is a secret, and where the secret ends, which may be after the match."""
    position = 0
    while match := expression.search(text, position):
        position = match.end()
        if not match.lastgroup:
            continue
        end = match.end(match.lastgroup)
        if more := _CONTINUATIONS.get(match.lastgroup):
            while turns := more.match(text, end):
                end = turns.end()
            position = end
        yield match, end
        if match.lastgroup == "bare" and text[position - 1] in ":=":
            # `token: password: abc`. The value is itself a name, and the secret follows it.
            position = max(match.start("bare"), position - LONGEST_NAME)


def is_header(name: str) -> bool:
    """True if this is the name of a header that holds a secret."""
    return _SECRET_HEADER.fullmatch(name.translate(_LOWER_CASE)) is not None


def is_secret(key: str, value: object) -> bool:
    """True if the value under this key is a secret. A boolean, a missing value and a count are none."""
    if value is None or type(value) is bool or (type(value) is str and not value):
        return False
    key = key.translate(_LOWER_CASE)
    if is_weak_secret(key, value):
        return True
    if key == "code":
        return type(value) is str and _GRANT_ALONE.match(value.translate(_LOWER_CASE)) is not None
    match = _SECRET_KEY.search(key)
    if match is None or (match["plural"] and _is_count(value)):
        return False
    plain = str(value) if type(value) in (int, str) and _is_count_or_text(value) else None
    return plain is None or not _is_ordinary(key + plain, match.start(), len(key), len(key) + len(plain))


def _is_count_or_text(value: object) -> bool:
    return type(value) is str or _is_count(value)


def _is_count(value: object) -> bool:
    """True for a number that JSON can express. Any other number may be the digits of a secret."""
    if type(value) is int:
        return value.bit_length() < sys.float_info.max_exp
    return type(value) is float and math.isfinite(value)
