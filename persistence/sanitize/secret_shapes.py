"""
Secrets that are recognised by their shape alone: tokens with a prefix, JSON web tokens, private keys.

Each expression stands beside the words without one of which it cannot match: looking for a word costs a tenth of
searching with the expression. Upper and lower case differ.
"""

import re
from functools import lru_cache
from typing import Final, NamedTuple


class Rule(NamedTuple):
    """An expression whose last group is the secret, and words of which each text that it matches has one."""

    words: tuple[str, ...]
    expression: re.Pattern[str]
    is_named: bool = False
    """True if the text must also hold the name of a secret."""

    def may_match(self, text: str) -> bool:
        """True if the text has one of the words."""
        for word in self.words:  # noqa: SIM110 - any() takes twice as long, and this runs for each text
            if word in text:
                return True
        return False


_FLAGS: Final = re.VERBOSE | re.ASCII | re.DOTALL
_TAIL: Final = r"[\w-]{4}[\w.-]*?(?!\.?[\w-])"
"""The rest of a token of GitLab: a full stop at the end of a sentence does not belong to it."""

_GITLAB: Final = ("pat", "oas", "dt", "rt", "rtr", "cbt", "ptt", "ft", "imt", "agent", "soat", "ffct", "wt")
"""The kinds of GitLab's tokens, between `gl` and a hyphen."""

_OTHERS: Final = r"""
      gh[pousr]_[A-Za-z0-9_]{20,}+ | github_pat_\w{20,}+
    | A[KS]IA(?<![A-Za-z0-9]A[KS]IA)[A-Z2-7]{16}(?![A-Za-z0-9])
      # Slack
    | xox[a-z](?:\.xox[a-z])?-[\w-]{10,}+ | xapp-[\w-]{10,}+
    | (?<=hooks\.slack\.com/)(?:services|workflows|triggers)/[\w/-]{8,}+
      # Google
    | AIza(?<![A-Za-z0-9]AIza)[\w-]{30,}+ | ya29\.[\w.-]{10,}+ | GOCSPX-[\w-]{10,}+ | 1//0[\w-]{20,}+
      # Stripe
    | [srp]k_(?:live|test)_\w{10,}+ | whsec_[\w+/=]{10,}+
      # Registries
    | npm_[A-Za-z0-9]{20,}+ | pypi-[\w-]{20,}+ | dckr_[a-z]{2,5}_[\w-]{20,}+
      # Atlassian
    | AT(?:ATT|CTT|BB)(?<![A-Za-z0-9]AT(?:ATT|CTT))[\w-]{16,}+(?:=[0-9A-F]{8})?
      # Language models, mail, and others
    | sk-(?<![\w-]sk-)(?=[A-Za-z_-]{0,40}\d)[\w-]{20,}+ | hf_[A-Za-z0-9]{20,}+
      # Crawlers of ours
    | cyc_[a-z2-7]{20,}+
    | SG\.[\w-]{16,}+\.[\w-]{16,}+ | hv[sb]\.[\w-]{20,}+ | do[opr]_v1_[0-9a-f]{20,}+
"""
_OTHER_WORDS: Final = (
    *("ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "AKIA", "ASIA", "xox", "xapp-", "hooks.slack"),
    *("AIza", "ya29.", "GOCSPX-", "1//0", "k_live_", "k_test_", "whsec_", "npm_", "pypi-", "dckr_"),
    *("ATATT", "ATCTT", "ATBB", "sk-", "hf_", "cyc_", "SG.", "hvs.", "hvb.", "_v1_"),
)

_JWT = r"""
      (?P<jwt> eyJ(?<![A-Za-z0-9]eyJ)[\w-]{10,}+\.[\w-]{4}[\w.-]*+ )
      # What begins like a JWT but is none is skipped as a whole; otherwise each "eyJ" in it would be tried.
    | eyJ(?<![A-Za-z0-9]eyJ)[\w.-]*+
"""
_PUTTY = r"Private-Lines:[ \t]*+\d{1,6}\s(?P<putty>.+?)(?=Private-MAC|\Z)"
_PRIVATE_KEY = r"""
      -----BEGIN[A-Z ]{0,32}PRIVATE\ KEY(?:\ BLOCK)?-----(?!-----)(?P<pem>.+?)(?=-----|\Z)
    | ----\ BEGIN[A-Z0-9 ]{0,32}PRIVATE\ KEY\ ----(?!-)(?P<ssh2>.+?)(?=----|\Z)
"""


def _rule(words: tuple[str, ...], expression: str) -> Rule:
    return Rule(words, re.compile(expression, _FLAGS))


SHAPES: Final = (
    _rule(("gl",), rf"(?P<gitlab> gl(?:{'|'.join(_GITLAB)})-{_TAIL})"),
    _rule(("GR1348941",), r"(?P<runner> GR1348941[\w-]{4,}+)"),
    _rule(_OTHER_WORDS, f"(?P<other> {_OTHERS} )"),
    _rule(("eyJ",), _JWT),
    _rule(("PRIVATE KEY", "Private-Lines"), f"{_PRIVATE_KEY} | {_PUTTY}"),
)


@lru_cache(maxsize=8)
def shape_of_prefixes(prefixes: tuple[str, ...]) -> Rule:
    """The rule of tokens that begin with one of the *prefixes* that an operator chose for a GitLab."""
    return _rule(prefixes, rf"(?P<own> (?:{'|'.join(map(re.escape, prefixes))}){_TAIL})")


# --- A JSON web token that is broken over lines, as in mail and in YAML ---

_FIRST_LINE = re.compile(r"eyJ(?<![A-Za-z0-9]eyJ)[\w.-]{13,}+(?=\r?\n)", re.ASCII)
_NEXT_LINE = re.compile(r"""\r?\n[ \t>]{0,16}(?P<line>[\w.-]++)(?=[\s"',;)}\]<]|\Z)""", re.ASCII)


def wrapped_jwts(text: str) -> list[tuple[int, int]]:
    """The places of JSON web tokens of several lines: each line but the last is at least as long as the next."""
    places = []
    if "eyJ" in text and "\n" in text:
        position = 0
        while first := _FIRST_LINE.search(text, position):
            position = end = first.end()
            dots, width = first.group().count("."), len(first.group())
            while (more := _NEXT_LINE.match(text, end)) and len(more["line"]) <= width + 1:
                dots, end = dots + more["line"].count("."), more.end()
                if len(more["line"]) < width - 1:
                    break
            if end > position and dots:
                places.append((first.start(), end))
            position = end
    return places
