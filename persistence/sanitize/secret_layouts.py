"""
The names of secrets, and the parts of which patterns of named values are made; and secrets in unusual layouts:
those whose name stands before them in another way than by `name: value` or `name=value`.

Pairs in lists, elements of XML, YAML with the value on the next line, options of a command, netrc files; and names
that mostly mean something else. All of it is for a text in lower case.
"""

import re
from typing import Final

from persistence.sanitize.secret_shapes import Rule

# Only single characters are repeated possessively: CPython before 3.11.5 mis-matches possessive and atomic
# groups that have to backtrack (python/cpython#106052). A group is repeated greedily, and only as the last part of an
# expression, so that nothing after it makes it backtrack. Its repeats are limited, because each takes memory;
# `_matches` continues where the limit ends the match.
MAX_REPEATS: Final = 1_000

NAMES: Final = r"""
      token | passw(?:or)?d | passphrase | secret | credentials? | bearer | _gitlab_session
      # Not as one group: each alternative begins with a letter, and the search skips all other letters.
    | api[ _-]?key | access[ _-]?key | private[ _-]?key | signing[ _-]?key | encryption[ _-]?key | accountkey
    | client_assertion | code_verifier | x-(?:amz|goog)-signature
"""
HEADERS: Final = r"""
      authorization(?<![a-z0-9_]authorization) | (?:proxy_?|http_)authorization
    | cookie(?<![a-z0-9]cookie)s? | set_?cookie
"""
# A name may end in a quote or a bracket of Rails. Two signs are no assignment: `token == null`, `Token::New`.
SIGN: Final = r"""["'\]]{0,2} [ \t]{0,8} (?: =>|:=|[:=](?![:=]) ) [ \t+]*+ (?: \[[ ]*+(?=["']) )?"""
DOUBLE: Final = rf"""(?: [^"\\]++ | \\. ){{1,{MAX_REPEATS}}}"""
SINGLE: Final = rf"""(?: [^'\\]++ | \\. ){{1,{MAX_REPEATS}}}"""
QUOTED: Final = rf""" "(?P<double>(?:{DOUBLE})?) | '(?P<single>(?:{SINGLE})?) """
# Up to a space or a delimiter. A comma, quote or backslash belongs to the run if a word continues after it.
RUN: Final = rf"""
    (?: [^\s&;,"'<>\\]++ | ,(?![\s"'\[{{]|\Z|[\w-]{{1,40}}[:=]) | ["'](?=\w) | \\++(?!["']) ){{1,{MAX_REPEATS}}}
"""
LINE: Final = rf"""
    (?: [^\r\n"'\\]++ | (?<==)"[^"\r\n]*+" | '(?![\s,;:)}}\]]|\Z) | \\++(?![nr"']) ){{1,{MAX_REPEATS}}}
"""
SCHEME: Final = r"""(?:bearer|basic|token)[ \t+]++(?=[^\s&;,"'<>\\])"""
DONE: Final = r"\[redacted\]"
# "token: expired" describes a token and contains none.
PLAIN: Final = r"""
    (?:null|none|nil|undefined|true|false|expired|invalid|missing|revoked|required
       |not|is|was|must|has|in|of|cannot|the)\.?(?=[\s,;&)}\]]|\Z)
"""


# --- The layouts ---

_FLAGS: Final = re.VERBOSE | re.ASCII | re.DOTALL

_PAIR = rf"""
    (?: {NAMES} | {HEADERS} ) ["'] , \s{{0,20}}
    # Not the next name of a list of names.
    (?! ["'] (?: {DONE} | [a-z]{{0,12}}(?:[ _-][a-z]{{1,12}}){{0,2}} ) ["'] ) (?: {QUOTED} )
"""
_HEADER_PAIR = rf"""
    (?: [a-z]{{1,20}}-token | {HEADERS} ) ["'] , \s{{0,20}} (?! ["']{DONE}["'] ) (?: {QUOTED} )
"""
_ELEMENT = rf"""
    (?: {NAMES} | (?<=<)(?:auth|pwd|pass) )
    (?: (?: [ ][^<>]{{0,200}} )? > \s{{0,40}} (?: <!\[cdata\[ )? (?! {PLAIN} | {DONE} )
        (?P<element> [^<>\s][^<>\]]*+ ) (?= \]\]> | </ )
      | </key> \s{{0,40}} <string> (?! {DONE} ) (?P<plist> [^<>]++ )
      | \]?["'] [ ]{{1,8}} (?:value|content) = ["'] (?! {DONE} ) (?P<attribute> [^"'<>]++ )
    )
"""
_LINE_BELOW = rf"""
    (?: {NAMES} ) ["']? : [ \t]*+ (?: [|>][+-]? )? [ \t]*+ \r?\n [ \t]++ (?! - [ ] ) ["']? (?! {PLAIN} | {DONE} )
    (?P<below> [^\s"']{{6,}}+ ) (?<![:{{\[]) (?= ["']? [ \t]*+ (?: \r?\n | \Z ) )
"""
_OPTION = rf"""
    --(?: [a-z]{{1,20}}- ){{0,3}} (?: {NAMES} ) [ \t]{{1,8}} ["']?
    (?! - | {PLAIN} | {DONE} ) (?P<option> [^\s"'<>|]{{4,}}+ )
"""
_USER_OPTION = rf"""
    (?<![\w-]) (?: -u | --(?:proxy-)?user ) [ \t=]{{1,4}} ["']? [^\s:"'/\\]{{1,64}} :
    (?! \d{{1,6}} (?: [\s"':] | \Z ) | {DONE} ) (?P<user> [^\s"']++ )
"""
_NETRC = rf"""
    (?: machine \s{{1,20}} \S{{1,255}} | default ) (?: \s{{1,20}} (?:login|account) \s{{1,20}} \S{{1,255}} ){{0,2}}
    \s{{1,20}} password \s{{1,20}} (?! {DONE} ) (?P<netrc> \S++ )
"""

# Names that mostly mean something else. A directory, a count and a plain word under them are no secret.
_WEAK_NAME = r"""
    (?: (?<![a-z0-9]) (?: auth | pass | session(?:[ _-]?id)? | sid )
      | pwd | (?:php|j|asp)sess(?:ion)?id )
"""
_WEAK_VALUE = rf"""
    (?! / | \d{{1,6}} (?: [^\w] | \Z ) | {PLAIN} | {DONE}
      | (?: basic | digest | oauth2? | header | ok | failed | passed | open | closed | active | new | old | on | off
          | yes | no ) (?: [^\w] | \Z ) )
    [^\s&;,"'<>\\]++
"""
_WEAK = rf"""
    {_WEAK_NAME} (?: = (?![=>~]) ["']? | ["'] [ ]{{0,8}} (?: => | : ) [ ]{{0,8}} ["'] ) (?P<weak> {_WEAK_VALUE} )
"""
_SIGNATURE = r"""[?&;]sig(?:nature)?= (?P<signature> [^\s&"'<>\#]{16,}+ )"""


def _rule(words: tuple[str, ...], expression: str, *, is_named: bool = False) -> Rule:
    return Rule(words, re.compile(expression, _FLAGS), is_named)


LAYOUTS: Final = (
    _rule(("',", '",'), _PAIR, is_named=True),
    _rule(("token'", 'token"', "authorization", "cookie"), _HEADER_PAIR, is_named=True),
    _rule(("</", "value=", "content="), _ELEMENT),
    _rule((":\n", ":\r", ": |", ": >", ": \n"), _LINE_BELOW, is_named=True),
    _rule(("--",), _OPTION, is_named=True),
    _rule(("-u", "-user"), _USER_OPTION),
    _rule(("machine", "default"), _NETRC, is_named=True),
    _rule(("auth", "pass", "pwd", "sess", "sid"), _WEAK),
    _rule(("sig=", "signature="), _SIGNATURE),
)

_WEAK_KEY = re.compile(rf"{_WEAK_NAME}\Z", _FLAGS)
_WEAK_TEXT = re.compile(_WEAK_VALUE, _FLAGS)


def is_weak_secret(key: str, value: object) -> bool:
    """True if *key*, in lower case, is a name that mostly means something else, and the value under it a secret."""
    return (
        type(value) is str
        and _WEAK_KEY.search(key) is not None
        and _WEAK_TEXT.match(value.lower()) is not None
    )
