"""
Paths are one whatever their case, as in GitLab: `MyGroup/Foo` and `mygroup/foo` are one project.

The web app's tables have a path as it was spelled, and are indexed by that alone. So `path_spelling` has each spelling
with capitals that was ever met, and a lookup probes them all: an order for a path without any costs one more probe.
"""

from string import ascii_lowercase, ascii_uppercase

from persistence.schema.sql import fragment

_LOWER = str.maketrans(ascii_uppercase, ascii_lowercase)


def path_key(path: str) -> str:
    """What all spellings of a path have in common: it without capitals of ASCII, since GitLab has no others."""
    return path.lower() if path.isascii() else path.translate(_LOWER)


def key_in(path: str) -> str:
    """The same as SQL, whatever the locale of the database."""
    return fragment('lower($path COLLATE "C") COLLATE "default"', path=path)


def spellings_of(path: str) -> str:
    """The known spellings of one path, as an SQL array; for an index by paths."""
    return fragment(
        """
        (ARRAY[$path, $key]
         || ARRAY (SELECT spelled.full_path FROM path_spelling spelled WHERE spelled.path_key = $key))
        """,
        path=path,
        key=key_in(path),
    )


def all_spellings_of(paths: str) -> str:
    """The known spellings of an array of paths, as one SQL array."""
    return fragment(
        """
        ARRAY (SELECT spelled.path FROM unnest(CAST($paths AS text[])) AS asked(path)
                CROSS JOIN LATERAL (SELECT unnest($spellings) AS path OFFSET 0) spelled)
        """,
        paths=paths,
        spellings=spellings_of("asked.path"),
    )
