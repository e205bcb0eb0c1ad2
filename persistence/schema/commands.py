"""Providers, kinds of areas, commands, and the commands that follow from a discovery."""

from enum import StrEnum


class Provider(StrEnum):
    """`job.provider` and `account.provider_id`."""

    GITLAB_ONPREM = "gitlab-onprem"
    GITLAB_CLOUD = "gitlab-cloud"
    JIRA_LOCAL = "jiralocal"
    JIRA_CLOUD = "jiracloud"


JIRA = frozenset({Provider.JIRA_LOCAL, Provider.JIRA_CLOUD})
"""The providers whose keys and ids are not GitLab's."""


class AreaType(StrEnum):
    """`area.type`."""

    GROUP = "group"
    PROJECT = "project"


class Command(StrEnum):
    """`job.command`: what is to be crawled."""

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
"""The command that a `job_type` of the wire protocol stands for."""

AREA_TYPE_OF_COMMAND = {
    Command.GROUP_PROJECT_DISCOVERY: AreaType.GROUP,
    Command.GROUP: AreaType.GROUP,
    Command.PROJECT: AreaType.PROJECT,
}
"""The commands whose entity is an area; the entity of any other command may be anything."""

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
"""The jobs created for a discovered area, one per command. Source: the platform's rules for discoveries."""
