"""
The parts of which the patterns of named secrets are made: names, signs, quoted and bare values.

All of them are for a text in lower case, and are compiled with VERBOSE and ASCII.
"""

from typing import Final

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
