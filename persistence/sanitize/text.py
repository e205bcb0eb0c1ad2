"""
Secrets in texts that others chose, taken out before anything is stored or logged.

A secret is found by its looks (`glpat-…`, a JWT, `https://user:password@host`) or by the name before it
(`access_token=…`, `Authorization: …`), in the text as it stands and with up to three layers of
percent-encoding, backslashes and HTML entities taken off. Only the secret is replaced: names, hosts
and paths stay readable. Base64 that holds one, under up to two layers of it, is replaced as a whole.
Every expression takes linear time on hostile text: quantifiers are possessive or bounded, and where
one is neither, no two matches scan the same characters.
"""

import html
import math
import re
import sys
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import Final, TypeAlias

from persistence.sanitize.base64_text import texts_in_base64

REDACTED: Final = "[redacted]"
_LAYERS = 3
_LAYERS_OF_BASE64 = 2
_MAX_PASSES = 6
LONGEST_NAME = 64
"""So much of a value is looked at again that might be a name."""

_MAX_SECRETS = 20_000
"""A text with so many secrets is nothing else. A megabyte of the shortest took over a second to mend."""

# Only single characters are repeated possessively: CPython before 3.11.5 mis-matches possessive and atomic
# groups that have to backtrack (python/cpython#106052). A group is repeated greedily as the last thing in its
# expression, where nothing sends it back; and so many times, as each takes memory. Then `_found` reads on.
_MAX_REPEATS = 1_000

# --- Secrets known by their looks: letters count ---

_TOKEN_SHAPES = re.compile(
    r"""
      (?P<gitlab>   gl(?:pat|oas|dt|rtr?|cbt|ptt|ft|imt|agent|soat|ffct|wt)-[\w-]{4}[\w.-]*?(?!\.?[\w-])
                  | GR1348941[\w-]{4,}+ )
    | (?P<github>   gh[pousr]_[A-Za-z0-9_]{20,}+ | github_pat_\w{20,}+ )
    | (?P<aws>      A[KS]IA(?<![A-Za-z0-9]A[KS]IA)[A-Z2-7]{16}(?![A-Za-z0-9]) )
    | (?P<jwt>      eyJ(?<![A-Za-z0-9]eyJ)[\w-]{10,}+\.[\w-]{4}[\w.-]*+ )
      # What begins like a JWT and is none is passed over as a whole, or each "eyJ" in it would be tried.
    | eyJ(?<![A-Za-z0-9]eyJ)[\w.-]*+
    | -----BEGIN[A-Z ]{0,32}PRIVATE\ KEY-----(?!-----)(?P<pem>.+?)(?=-----|\Z)
    """,
    re.VERBOSE | re.ASCII | re.DOTALL,
)

# --- Secrets known by the name before them, in lower case ---

_NAMES = r"""
      token | passw(?:or)?d | passphrase | secret | credentials? | bearer | _gitlab_session
    | (?:api|access|secret|private|signing|encryption)[ _-]?key
    | client_assertion | code_verifier | x-(?:amz|goog)-signature
"""
_HEADERS = r"""
      authorization(?<![a-z0-9_]authorization) | (?:proxy_?|http_)authorization
    | cookie(?<![a-z0-9]cookie)s? | set_?cookie
"""
# A name may end in a quote or Rails' bracket. Two signs are no assignment: `token == null`, `Token::New`.
_SIGN = r"""["'\]]{0,2} [ \t]{0,8} (?: =>|:=|[:=](?![:=]) ) [ \t+]*+ (?: \[[ ]*+(?=["']) )?"""
_DOUBLE = rf"""(?: [^"\\]++ | \\. ){{1,{_MAX_REPEATS}}}"""
_SINGLE = rf"""(?: [^'\\]++ | \\. ){{1,{_MAX_REPEATS}}}"""
_QUOTED = rf""" "(?P<double>(?:{_DOUBLE})?) | '(?P<single>(?:{_SINGLE})?) """
# Up to a blank or a delimiter; commas, quotes and backslashes belong to it where a word goes on behind.
_RUN = rf"""
    (?: [^\s&;,"'<>\\]++ | ,(?![\s"'\[{{]|\Z|[\w-]{{1,40}}[:=]) | ["'](?=\w) | \\++(?!["']) ){{1,{_MAX_REPEATS}}}
"""
_LINE = rf"""
    (?: [^\r\n"'\\]++ | (?<==)"[^"\r\n]*+" | '(?![\s,;:)}}\]]|\Z) | \\++(?![nr"']) ){{1,{_MAX_REPEATS}}}
"""
_SCHEME = r"""(?:bearer|basic|token)[ \t+]++(?=[^\s&;,"'<>\\])"""
_DONE = r"\[redacted\]"
# "token: expired" tells of a token; it is none.
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
          # Any other scheme, and cookies: to the end of the line or of the text that quotes it.
          | (?P<line> {_LINE} )
        )
    )
    """,
    re.VERBOSE | re.ASCII | re.DOTALL,
)
_BEARER = re.compile(
    r"(?:bearer|basic)[ \t+]++(?=[a-z._~/+=-]{0,64}\d)(?P<bearer>[\w.~+/=-]{16,}+)", re.ASCII
)
# Whether an "@" follows, and no quote that closes something comes first. It is the last such "@" that counts.
_BEFORE_AT = r"""(?! [^\s/?\#"<>@\\]*?'[,)\]}] ) (?= [^\s/?\#"<>@\\]*+@ )"""
_USER_INFO = re.compile(
    rf"""
    ://(?!git@)
    (?: {_BEFORE_AT} (?P<user> [^\s/?\#"<>\\]*? )@(?! {_BEFORE_AT} )
        # Some leave the slash in their password as it is. What looks like a port is one.
      | (?!\[)[^\s/?\#"'<>@:]*+:(?!\d{{1,5}}[/?\#])(?! [^\s"'<>@\\]*?:// )(?P<slashed> [^\s"'<>@\\]*+ )@
    )
    """,
    re.VERBOSE | re.ASCII,
)

# --- `code`, which mostly is an error's. OAuth's comes in a query, or is long and has digits ---

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
"""What matches where a group of such a name ended, if that was for want of turns."""


_SECRET_KEY = re.compile(
    rf"(?:{_NAMES}|{_HEADERS}|jwt|proxyauthorization)(?P<plural>s)?\Z", re.VERBOSE | re.ASCII
)
_ESCAPE = re.compile(
    r"""%[0-9A-Fa-f]{2}|\\u[0-9A-Fa-f]{4}|\\x[0-9A-Fa-f]{2}|\\["'\\/nrt]|&(?:quot|amp|apos|\#34|\#39|\#x27);"""
)
_CODE_POINT = re.compile(r"(?:%|\\u|\\x)([0-9A-Fa-f]+)")
_LETTERS = {"\\n": "\n", "\\r": "\r", "\\t": "\t"}
_OUTSIDE_A_COMPONENT = re.compile(r"""[\s&"<>]""", re.ASCII)
_LOWER_CASE = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}
"""`str.lower` may change a text's length; our positions must stay."""


_Known: TypeAlias = dict[tuple[str, int], bool]
"""Whether texts that were read from base64 hold a secret: each view and each pass finds the same ones."""


@dataclass(frozen=True)
class _View:
    """A text with layers of escaping taken off, and the way back to places in the original."""

    text: str
    origin: Callable[[int], int]

    def peeled(self) -> "_View | None":
        """One layer less, or None where there is none."""
        pieces: list[str] = []
        places: list[int] = []
        shifts: list[int] = []
        end = shift = 0
        for escape in _ESCAPE.finditer(self.text):
            start, after = escape.span()
            pieces.append(self.text[end:start])
            pieces.append(_unescaped(escape.group()))
            places.append(start - shift)
            shift += after - start - 1
            shifts.append(shift)
            end = after
        if not pieces:
            return None
        pieces.append(self.text[end:])
        outer = self.origin

        def origin(index: int) -> int:
            before = bisect_left(places, index)
            return outer(index + shifts[before - 1] if before else index)

        return _View("".join(pieces), origin)


@lru_cache(maxsize=1024)
def _unescaped(escape: str) -> str:
    """The one character that an escape stands for; of UTF-8 in percent signs, each byte by itself."""
    if escape[0] == "&":
        return html.unescape(escape)
    if digits := _CODE_POINT.fullmatch(escape):
        return chr(int(digits[1], base=16))
    return _LETTERS.get(escape, escape[1])


def _views(text: str) -> Iterator[_View]:
    view: _View | None = _View(text, lambda index: index)
    for _ in range(_LAYERS + 1):
        if view is None:
            return
        yield view
        view = view.peeled()


def _secrets(text: str, layers: int, known: _Known) -> Iterator[tuple[int, int]]:
    """Where the secrets of a text stand, with so many layers of base64 taken off."""
    for view in _views(text):
        yield from _secrets_in_view(view, text)
        if layers:
            for encoded in texts_in_base64(view.text):
                if _holds_secret(encoded.text, layers - 1, known):
                    yield view.origin(encoded.start), view.origin(encoded.end)


def _holds_secret(text: str, layers: int, known: _Known) -> bool:
    if (text, layers) not in known:
        known[text, layers] = any(start < end for start, end in _secrets(text, layers, known))
    return known[text, layers]


def _secrets_in_view(view: _View, original: str) -> Iterator[tuple[int, int]]:
    """Where in the original the secrets stand that show in this view as they are."""
    for match, end in _found(_TOKEN_SHAPES, view.text):
        yield _place(match, end, view, original)
    lower = view.text.translate(_LOWER_CASE)
    for expression in _IN_LOWER_CASE:
        for match, end in _found(expression, lower):
            yield _place(match, end, view, original)


def _found(expression: re.Pattern[str], text: str) -> Iterator[tuple[re.Match[str], int]]:
    """Each match with a secret, which is its last group, and where that secret ends: it may be behind the match."""
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
            # `token: password: abc`. The value is a name itself, and what follows it the secret.
            position = max(match.start("bare"), position - LONGEST_NAME)


def _place(match: re.Match[str], end: int, view: _View, original: str) -> tuple[int, int]:
    start = match.start(match.lastgroup or 0)
    if match.lastgroup == "bare":
        # The brackets around `(token=abc)` are not the token's.
        end = start + len(match.string[start:end].rstrip(")}]"))
    if view.text is original:
        return start, end
    name, first, after = view.origin(match.start()), view.origin(start), view.origin(end)
    if "%" in original[name:first]:
        # The sign itself is percent-encoded: all this is one component of a URL and ends with it.
        outside = _OUTSIDE_A_COMPONENT.search(original, first, after)
        after = outside.start() if outside else after
    return first, after


def _redacted_once(text: str, known: _Known) -> str:
    places = list(islice(_secrets(text, _LAYERS_OF_BASE64, known), _MAX_SECRETS))
    if len(places) == _MAX_SECRETS:
        return REDACTED
    pieces: list[str] = []
    end = 0
    for start, after in _merged(places):
        pieces += (text[end:start], REDACTED)
        end = after
    return "".join(pieces) + text[end:]


def _merged(places: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """The places in order, overlapping ones as one, empty ones left out."""
    merged: list[tuple[int, int]] = []
    for start, end in sorted(places):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        elif start < end:
            merged.append((start, end))
    return merged


def redact_text(text: str) -> str:
    """
    The text with `[redacted]` in place of each secret, and otherwise unchanged.

    Redacting twice is redacting once. A text that never comes to rest, or holds 20,000 secrets, is
    `[redacted]` as a whole.
    """
    known: _Known = {}
    for _ in range(_MAX_PASSES):
        redacted = _redacted_once(text, known)
        if redacted == text:
            return text
        text = redacted
    return REDACTED


def is_secret(key: str, value: object) -> bool:
    """Whether what stands under this key is to be replaced as a whole. A flag, a gap and a count are none."""
    if value is None or type(value) is bool or (type(value) is str and not value):
        return False
    key = key.translate(_LOWER_CASE)
    if key == "code":
        return type(value) is str and _GRANT_ALONE.match(value.translate(_LOWER_CASE)) is not None
    match = _SECRET_KEY.search(key)
    return match is not None and not (match["plural"] and _is_count(value))


def _is_count(value: object) -> bool:
    """Whether it is a number that JSON can say; of those that it cannot, any might be a secret's digits."""
    if type(value) is int:
        return value.bit_length() < sys.float_info.max_exp
    return type(value) is float and math.isfinite(value)
