"""What the GitLab URL of a `job` names: its host, and its instance. As parts of SQL, and in Python."""

HOST = """COALESCE(substring(job."gitlabGraphQLUrl" FROM '://([^/]+)'), '')"""
"""The host, for caps, with its port; '' where the job has none."""

INSTANCE = """lower(substring(job."gitlabGraphQLUrl" FROM '^([A-Za-z]+://[^/]+)'))"""
"""Scheme and host in small letters, for whom tokens are sent to; NULL where the job has none."""


def graphql_url(instance: str) -> str:
    """The URL of a new job, from the scheme and host of its GitLab."""
    return f"{instance}/api/graphql"
