"""
How GitLab's paths and ids look. Jira's keys and ids are exempt from these rules.

What a crawler reports becomes a path and an id of other accounts' orders too, so nothing else is let in.
"""

import re

MAX_ANCESTORS = 20
"""Groups that a group or project may be nested in."""

_SEGMENT = re.compile(r"[A-Za-z0-9_.][A-Za-z0-9_.-]{0,254}")
_RESERVED = (".", "..")
_SUFFIXES = (".git", ".atom")
_NUMBER = re.compile(r"[1-9][0-9]{0,18}")

NOT_A_PATH = (
    f"the path is not one of GitLab's: names of A-Z, a-z, 0-9, _, . and -, at most {MAX_ANCESTORS} ancestors"
)
NOT_AN_ID = "the id is neither a number nor the global id of a {noun}"


def is_path(path: str) -> bool:
    """True if it is the full path of a group, project or user of GitLab."""
    segments = path.split("/")
    return len(segments) <= MAX_ANCESTORS + 1 and all(map(_is_segment, segments))


def is_id(noun: str, id_: str) -> bool:
    """True if it is the global id of a group, project or user: *noun* says which."""
    prefix = f"gid://gitlab/{noun.capitalize()}/"
    return id_.startswith(prefix) and _NUMBER.fullmatch(id_.removeprefix(prefix)) is not None


def _is_segment(segment: str) -> bool:
    return (
        _SEGMENT.fullmatch(segment) is not None
        and segment not in _RESERVED
        and not segment.endswith(_SUFFIXES)
    )
