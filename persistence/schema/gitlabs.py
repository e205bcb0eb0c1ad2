"""
Which GitLab a URL names: what is compared, counted and stored as a key, whatever the spelling.

Rows of `job` keep the URL that the web app wrote. Everything of ours that is compared goes through here: identities,
host queues and their caps, the hosts of areas, bindings and providers. For statements that compare hosts,
`gitlab_spelling` has the host of each URL that was met, unless it stands in the URL as it is. A GitLab that moved is
named by where it is now, as `crawlyard gitlab moved` said: persistence/origins/aliases.py reads that.
"""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

from persistence.origin import graphql_url, origin_of
from persistence.schema.sql import fragment

_WRITTEN_HOST = "://([^/]+)"
_DEFAULT_PORT = re.compile(r":(?:80|443)(?=/|$)")


class _Gitlab(NamedTuple):
    origin: str | None
    url: str
    host: str
    written_host: str


def gitlab_of(url: str) -> str | None:
    """Return the origin of the GitLab that a URL names; None if the URL has none."""
    return _read(url).origin


def url_of(url: str | None) -> str | None:
    """Return the URL by which a job is compared: of the GraphQL of its GitLab. One without an origin stays as it is."""
    return None if url is None else _read(url).url


def host_of(url: str | None) -> str:
    """
    Return the key of a URL's GitLab for caps, host queues and areas: the host, its port and its path prefix.

    Without the scheme, so that a GitLab that changes to https stays the same; '' where there is no URL.
    """
    return "" if url is None else _read(url).host


def known_host(host: str | None) -> str | None:
    """Return the key for a host that was stored earlier, in another spelling or before its GitLab moved."""
    if not host:
        return host
    key = _read(f"https://{host}").host
    return _Current.names.hosts.get(key, key)


def is_same(one: str | None, other: str | None) -> bool:
    """Return True if two jobs with these URLs are at the same GitLab."""
    return one == other or url_of(one) == url_of(other)


def needs_note(url: str) -> bool:
    """Return True if SQL finds the host of a URL only in `gitlab_spelling`."""
    return _read(url).host != _read(url).written_host


def host_in(url: str) -> str:
    """`host_of` as SQL, for a column or an expression that has a URL whose spelling is noted."""
    return fragment(
        """
        COALESCE((SELECT noted.host FROM gitlab_spelling noted WHERE noted.url = $url),
                 substring($url FROM '$written'), '')
        """,
        url=url,
        written=_WRITTEN_HOST,
    )


HOST = host_in('job."gitlabGraphQLUrl"')
"""The key of a `job`'s GitLab; '' where the job has no URL."""


class _Names:
    """What URLs name while these aliases are known; replaced as a whole, since threads read it."""

    def __init__(self, aliases: Mapping[str, str]) -> None:
        self.aliases = dict(aliases)
        self.hosts = {_host(former): _host(origin) for former, origin in aliases.items()}
        self.read = lru_cache(maxsize=4096)(self._read)

    def _read(self, url: str) -> _Gitlab:
        found = re.search(_WRITTEN_HOST, url)
        written = found[1] if found else ""
        written_origin = origin_of(url)
        if written_origin is None:
            return _Gitlab(None, url, written, written)
        origin = self.aliases.get(written_origin, written_origin)
        return _Gitlab(origin, graphql_url(origin), _host(origin), written)


class _Current:
    names: _Names


def use_aliases(aliases: Mapping[str, str]) -> None:
    """From now on this process names GitLabs that moved, which are given by their former origins, as they are now."""
    if not hasattr(_Current, "names") or aliases != _Current.names.aliases:
        _Current.names = _Names(aliases)


def _read(url: str) -> _Gitlab:
    return _Current.names.read(url)


def _host(origin: str) -> str:
    return _DEFAULT_PORT.sub("", origin.partition("://")[2])


use_aliases({})
