"""What the GitLab URL of a `job` names for caps, as a part of SQL. Its origin is parsed in persistence/origin.py."""

HOST = """COALESCE(substring(job."gitlabGraphQLUrl" FROM '://([^/]+)'), '')"""
"""The host, with its port; '' where the job has none."""
