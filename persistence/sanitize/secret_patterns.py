"""
The patterns of secrets: what a secret looks like, and which names stand before one.

A secret is recognised by its shape (`glpat-…`, a JWT, `https://user:password@host`) or by its name (`access_token=…`,
`Authorization: …`). Every expression takes linear time on hostile text: quantifiers are possessive or bounded, and
where one is neither, no two matches scan the same characters.
"""

import math
import re
import sys
from collections.abc import Iterator
from typing import Final, NamedTuple

LONGEST_NAME: Final = 64
"""A value may itself be a name; this much of its end is searched again."""

# Only single characters are repeated possessively: CPython before 3.11.5 mis-matches possessive and atomic
# groups that have to backtrack (python/cpython#106052). A group is repeated greedily, and only as the last part of an
# expression, so that nothing after it makes it backtrack. Its repeats are limited, because each takes memory;
# `_matches` continues where the limit ends the match.
_MAX_REPEATS = 1_000

# --- Secrets recognised by their shape; upper and lower case differ ---

_TOKEN_SHAPES = re.compile(
    r"""
      (?P<gitlab>   gl(?:pat|oas|dt|rtr?|cbt|ptt|ft|imt|agent|soat|ffct|wt)-[\w-]{4}[\w.-]*?(?!\.?[\w-])
                  | GR1348941[\w-]{4,}+ )
    | (?P<github>   gh[pousr]_[A-Za-z0-9_]{20,}+ | github_pat_\w{20,}+ )
    | (?P<aws>      A[KS]IA(?<![A-Za-z0-9]A[KS]IA)[A-Z2-7]{16}(?![A-Za-z0-9]) )
    | (?P<jwt>      eyJ(?<![A-Za-z0-9]eyJ)[\w-]{10,}+\.[\w-]{4}[\w.-]*+ )
      # What begins like a JWT but is none is skipped as a whole; otherwise each "eyJ" in it would be tried.
    | eyJ(?<![A-Za-z0-9]eyJ)[\w.-]*+
    | -----BEGIN[A-Z ]{0,32}PRIVATE\ KEY-----(?!-----)(?P<pem>.+?)(?=-----|\Z)
    """,
    re.VERBOSE | re.ASCII | re.DOTALL,
)

# --- Secrets recognised by the name before them, in lower case ---

_NAMES = r"""
      token | passw(?:or)?d | passphrase | secret | credentials? | bearer | _gitlab_session
    | (?:api|access|secret|private|signing|encryption)[ _-]?key
    | client_assertion | code_verifier | x-(?:amz|goog)-signature
"""
_HEADERS = r"""
      authorization(?<![a-z0-9_]authorization) | (?:proxy_?|http_)authorization
    | cookie(?<![a-z0-9]cookie)s? | set_?cookie
"""
# A name may end in a quote or a bracket of Rails. Two signs are no assignment: `token == null`, `Token::New`.
_SIGN = r"""["'\]]{0,2} [ \t]{0,8} (?: =>|:=|[:=](?![:=]) ) [ \t+]*+ (?: \[[ ]*+(?=["']) )?"""
_DOUBLE = rf"""(?: [^"\\]++ | \\. ){{1,{_MAX_REPEATS}}}"""
_SINGLE = rf"""(?: [^'\\]++ | \\. ){{1,{_MAX_REPEATS}}}"""
_QUOTED = rf""" "(?P<double>(?:{_DOUBLE})?) | '(?P<single>(?:{_SINGLE})?) """
# Up to a space or a delimiter. A comma, quote or backslash belongs to the run if a word continues after it.
_RUN = rf"""
    (?: [^\s&;,"'<>\\]++ | ,(?![\s"'\[{{]|\Z|[\w-]{{1,40}}[:=]) | ["'](?=\w) | \\++(?!["']) ){{1,{_MAX_REPEATS}}}
"""
_LINE = rf"""
    (?: [^\r\n"'\\]++ | (?<==)"[^"\r\n]*+" | '(?![\s,;:)}}\]]|\Z) | \\++(?![nr"']) ){{1,{_MAX_REPEATS}}}
"""
_SCHEME = r"""(?:bearer|basic|token)[ \t+]++(?=[^\s&;,"'<>\\])"""
_DONE = r"\[redacted\]"
# "token: expired" describes a token and contains none.
_PLAIN = r"""
    (?:null|none|nil|undefined|true|false|expired|invalid|missing|revoked|required
       |not|is|was|must|has|in|of|cannot|the)\.?(?=[\s,;&)}\]]|\Z)
"""

_NAMED = re.compile(
    rf"""
    (?: {_NAMES} ) {_SIGN}
    (?: {_QUOTED}
      | (?: {_SCHEME} | (?!{_SCHEME}) )
        (?! {_PLAIN} | {_DONE}[)}}\]]*+(?:[\s&;,"'<>\\]|\Z) ) (?P<bare> {_RUN} )
    )
    """,
    re.VERBOSE | re.ASCII | re.DOTALL,
)
_HEADER = re.compile(
    rf"""
    (?: {_HEADERS} ) {_SIGN}
    (?: {_QUOTED}
      | (?! {_DONE}(?:[\s&;,"'<>\\]|\Z) )
        (?: (?:bearer|basic|token|jwt)[ \t+]++ (?P<run> {_RUN} )
          # Any other scheme, and cookies: up to the end of the line or of the quoted text.
          | (?P<line> {_LINE} )
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

_IN_LOWER_CASE = (_NAMED, _HEADER, _BEARER, _USER_INFO, _CODE)

_CONTINUATIONS = {
    group: re.compile(turns, re.VERBOSE | re.ASCII | re.DOTALL)
    for group, turns in (
        ("double", _DOUBLE),
        ("single", _SINGLE),
        ("bare", _RUN),
        ("run", _RUN),
        ("line", _LINE),
    )
}
"""By group name, the expression that continues a group that ended at the limit of its repeats."""

_SECRET_KEY = re.compile(
    rf"(?:{_NAMES}|{_HEADERS}|jwt|proxyauthorization)(?P<plural>s)?\Z", re.VERBOSE | re.ASCII
)

_LOWER_CASE = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}
"""Not `str.lower`, which may change the length of a text: positions must stay valid."""


class FoundSecret(NamedTuple):
    """Positions in a text."""

    name: int
    """Where the name before the secret begins; *start* if there is none."""
    start: int
    end: int


def find_secrets(text: str) -> Iterator[FoundSecret]:
    """The secrets in a text as it stands, without removing any encoding."""
    yield from _found(_TOKEN_SHAPES, text)
    lower = text.translate(_LOWER_CASE)
    for expression in _IN_LOWER_CASE:
        yield from _found(expression, lower)


def _found(expression: re.Pattern[str], text: str) -> Iterator[FoundSecret]:
    for match, end in _matches(expression, text):
        start = match.start(match.lastgroup or 0)
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


def is_secret(key: str, value: object) -> bool:
    """True if the value under this key is a secret. A boolean, a missing value and a count are none."""
    if value is None or type(value) is bool or (type(value) is str and not value):
        return False
    key = key.translate(_LOWER_CASE)
    if key == "code":
        return type(value) is str and _GRANT_ALONE.match(value.translate(_LOWER_CASE)) is not None
    match = _SECRET_KEY.search(key)
    return match is not None and not (match["plural"] and _is_count(value))


def _is_count(value: object) -> bool:
    """True for a number that JSON can express. Any other number may be the digits of a secret."""
    if type(value) is int:
        return value.bit_length() < sys.float_info.max_exp
    return type(value) is float and math.isfinite(value)
