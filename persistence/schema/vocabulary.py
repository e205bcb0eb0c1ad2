"""The words of the domain: states, commands, kinds of errors and events, and the types of ids."""

from enum import StrEnum
from typing import NewType

AccountId = NewType("AccountId", str)
ConnectionId = NewType("ConnectionId", str)
CrawlerJobId = NewType("CrawlerJobId", str)
"""The fence: names one attempt of one job, and is what a crawler echoes as `jobId`."""
EntryId = NewType("EntryId", str)
JobId = NewType("JobId", str)


class JobStatus(StrEnum):
    """Of `job.status`; `cancelled` is ours, the rest is the web app's."""

    QUEUED = "queued"
    RUNNING = "running"
    PAUSED = "paused"
    FAILED = "failed"
    FINISHED = "finished"
    CANCELLED = "cancelled"
    CREDENTIAL_EXPIRED = "credential_expired"
    WAITING_CREDENTIAL_RENEWAL = "waiting_credential_renewal"
    CREDENTIAL_RENEWED = "credential_renewed"
    UNKNOWN = "unknown"
    """Stands for any status that the web app has and we have not: such a job is held."""

    @classmethod
    def _missing_(cls, _value: object) -> "JobStatus":
        return cls.UNKNOWN


class QueueStatus(StrEnum):
    """Of `job_queue.status`."""

    PENDING = "pending"
    PROCESSING = "processing"
    COMPLETED = "completed"
    FAILED = "failed"


class AssignmentStatus(StrEnum):
    """Of `job_assignment_mapping.status`; live is assigned or running, `pending` is the old component's."""

    PENDING = "pending"
    ASSIGNED = "assigned"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class SystemStatus(StrEnum):
    """Of `socket_connection.system_status`; the wire's `processing` is stored as `crawling`."""

    IDLE = "idle"
    DISCOVERING = "discovering"
    CRAWLING = "crawling"
    ERROR = "error"


class Provider(StrEnum):
    """Of `job.provider` and `account.provider_id`."""

    GITLAB_ONPREM = "gitlab-onprem"
    GITLAB_CLOUD = "gitlab-cloud"
    JIRA_LOCAL = "jiralocal"
    JIRA_CLOUD = "jiracloud"


class AreaType(StrEnum):
    """Of `area.type`."""

    GROUP = "group"
    PROJECT = "project"


class Ending(StrEnum):
    """Why we closed an attempt ourselves; stands as error_type in `job_error_log`."""

    CONNECTION_LOST = "ConnectionLost"
    STALLED = "Stalled"
    NEVER_STARTED = "NeverStarted"
    DISOWNED = "Disowned"
    GOODBYE = "Goodbye"
    CANCELLED = "Cancelled"
    CREDENTIAL_EXPIRED = "CredentialExpired"

    @property
    def is_loss(self) -> bool:
        """Whether it counts in `job_queue.losses`."""
        return self not in (Ending.GOODBYE, Ending.CANCELLED, Ending.CREDENTIAL_EXPIRED)


class HoldReason(StrEnum):
    """Of `account_lane.held_reason`: why nothing is seated for an account."""

    TOKEN_DIED = "token_died"  # noqa: S105 - no password
    TOKEN_EXPIRING = "token_expiring"  # noqa: S105
    PROVIDER_AWAY = "provider_away"
    AUTHORIZATION_NEEDED = "authorization_needed"


class CredentialError(StrEnum):
    """Of the event `credential_needed`: what is wrong with an account's token."""

    OAUTH2_EXPIRED = "OAUTH2_EXPIRED"
    OAUTH2_REVOKED = "OAUTH2_REVOKED"
    PAT_EXPIRED = "PAT_EXPIRED"
    PAT_REVOKED = "PAT_REVOKED"
    NETWORK_ERROR = "NETWORK_ERROR"
    PROVIDER_ERROR = "PROVIDER_ERROR"


class EventType(StrEnum):
    """Of `dispatch_event.type`."""

    JOB_CREATED = "job_created"
    JOB_UPDATED = "job_updated"
    JOB_DELETED = "job_deleted"
    JOB_ASSIGNED = "job_assigned"
    JOB_REVOKED = "job_revoked"
    PROGRESS_UPDATED = "progress_updated"
    ERROR_LOGGED = "error_logged"
    CONNECTION_REGISTERED = "connection_registered"
    CONNECTION_LOST = "connection_lost"
    CONNECTION_EXPIRED = "connection_expired"
    CREDENTIAL_NEEDED = "credential_needed"
    CREDENTIAL_RENEWED = "credential_renewed"
    ACCOUNT_PAUSED = "account_paused"
    ACCOUNT_RESUMED = "account_resumed"
    AREA_CHANGED = "area_changed"


class Command(StrEnum):
    """Of `job.command`: what is to be crawled."""

    AUTHORIZATION_SCOPE = "authorizationScope"
    USERS = "users"
    TIMELOGS = "timelogs"
    WORK_ITEMS = "workItems"
    GROUP_PROJECTS = "groupProjects"
    GROUP_SUBGROUPS = "groupSubgroups"
    GROUP_PROJECT_DISCOVERY = "GROUP_PROJECT_DISCOVERY"
    GROUP = "group"
    GROUP_MEMBERS = "groupMembers"
    GROUP_ISSUES = "groupIssues"
    EPICS = "epics"
    GROUP_CUSTOM_ATTRIBUTES = "groupCustomAttributes"
    GROUP_ACCESS_REQUESTS = "groupAccessRequests"
    GROUP_VARIABLES = "groupVariables"
    GROUP_LABELS = "groupLabels"
    GROUP_BADGES = "groupBadges"
    GROUP_DEPLOY_TOKENS = "groupDeployTokens"
    GROUP_ISSUE_BOARDS = "groupIssueBoards"
    GROUP_MILESTONES = "groupMilestones"
    EPIC_ISSUES = "epicIssues"
    EPIC_NOTES = "epicNotes"
    EPIC_DISCUSSIONS = "epicDiscussions"
    PROJECT = "project"
    PROJECT_VARIABLES = "projectVariables"
    PROJECT_MEMBERS = "projectMembers"
    ISSUES = "issues"
    PAGES_DOMAINS = "pagesDomains"
    PROJECT_CUSTOM_ATTRIBUTES = "projectCustomAttributes"
    PROJECT_STATISTICS = "projectStatistics"
    PROJECT_BADGES = "projectBadges"
    PROJECT_TEMPLATES = "projectTemplates"
    PROJECT_ACCESS_REQUESTS = "projectAccessRequests"
    PROJECT_HOOKS = "projectHooks"
    PROJECT_ISSUE_BOARDS = "projectIssueBoards"
    FREEZE_PERIODS = "freezePeriods"
    COMMITS = "commits"
    COMMIT_DISCUSSIONS = "commitDiscussions"
    BRANCHES = "branches"
    TAGS = "tags"
    MERGE_REQUESTS = "mergeRequests"
    MERGE_REQUEST_NOTES = "mergeRequestNotes"
    MERGE_REQUEST_DISCUSSIONS = "mergeRequestDiscussions"
    MERGE_REQUEST_AWARD_EMOJIS = "mergeRequestAwardEmojis"
    PROJECT_SNIPPETS = "projectSnippets"
    SNIPPETS = "snippets"
    PIPELINES = "pipelines"
    PIPELINE_SCHEDULES = "pipelineSchedules"
    JOBS = "jobs"
    DEPLOYMENTS = "deployments"
    ENVIRONMENTS = "environments"
    PIPELINE_SCHEDULE_VARIABLES = "pipelineScheduleVariables"
    PIPELINE_TRIGGERS = "pipelineTriggers"
    CONTAINER_REGISTRY_REPOSITORIES = "containerRegistryRepositories"
    PACKAGES = "packages"
    VULNERABILITIES = "vulnerabilities"
    PROTECTED_BRANCHES = "protectedBranches"
    PROTECTED_TAGS = "protectedTags"
    DEPLOY_KEYS = "deployKeys"


COMMAND_OF_JOB_TYPE = {
    "discover_namespaces": Command.GROUP_PROJECT_DISCOVERY,
    "crawl_user": Command.USERS,
    "crawl_group": Command.GROUP,
    "crawl_project": Command.PROJECT,
}
"""What a `job_type` on the wire asks for."""

AREA_TYPE_OF_COMMAND = {
    Command.GROUP_PROJECT_DISCOVERY: AreaType.GROUP,
    Command.GROUP: AreaType.GROUP,
    Command.PROJECT: AreaType.PROJECT,
}
"""The commands whose entity is an area; of the others the entity may be anything."""

COMMANDS_OF_AREA = {
    AreaType.GROUP: (Command.GROUP, Command.GROUP_MEMBERS, Command.GROUP_PROJECTS, Command.GROUP_ISSUES),
    AreaType.PROJECT: (
        Command.PROJECT,
        Command.ISSUES,
        Command.MERGE_REQUESTS,
        Command.BRANCHES,
        Command.PIPELINES,
    ),
}
"""What follows from the discovery of an area: one job each. Source: the platform's rules for discoveries."""
