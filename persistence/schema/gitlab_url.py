"""What the GitLab URL of a `job` names for caps, as a part of SQL. Its origin is parsed in persistence/origin.py."""

from persistence.schema.sql import fragment


def host_in(url: str) -> str:
    """The host, with its port, in the URL that this column has; '' where it is NULL."""
    return fragment("COALESCE(substring($url FROM '://([^/]+)'), '')", url=url)


HOST = host_in('job."gitlabGraphQLUrl"')
"""The host, with its port; '' where the job has none."""
