// Made from `crawlyard contract` by `npm run types`: the payload of every task, by its name. Not to be edited.

/**
 * Of `job.provider` and `account.provider_id`.
 */
export type Provider = "gitlab-onprem" | "gitlab-cloud" | "jiralocal" | "jiracloud";
/**
 * Of `job.command`: what is to be crawled.
 */
export type Command =
  | "authorizationScope"
  | "users"
  | "timelogs"
  | "workItems"
  | "groupProjects"
  | "groupSubgroups"
  | "GROUP_PROJECT_DISCOVERY"
  | "group"
  | "groupMembers"
  | "groupIssues"
  | "epics"
  | "groupCustomAttributes"
  | "groupAccessRequests"
  | "groupVariables"
  | "groupLabels"
  | "groupBadges"
  | "groupDeployTokens"
  | "groupIssueBoards"
  | "groupMilestones"
  | "epicIssues"
  | "epicNotes"
  | "epicDiscussions"
  | "project"
  | "projectVariables"
  | "projectMembers"
  | "issues"
  | "pagesDomains"
  | "projectCustomAttributes"
  | "projectStatistics"
  | "projectBadges"
  | "projectTemplates"
  | "projectAccessRequests"
  | "projectHooks"
  | "projectIssueBoards"
  | "freezePeriods"
  | "commits"
  | "commitDiscussions"
  | "branches"
  | "tags"
  | "mergeRequests"
  | "mergeRequestNotes"
  | "mergeRequestDiscussions"
  | "mergeRequestAwardEmojis"
  | "projectSnippets"
  | "snippets"
  | "pipelines"
  | "pipelineSchedules"
  | "jobs"
  | "deployments"
  | "environments"
  | "pipelineScheduleVariables"
  | "pipelineTriggers"
  | "containerRegistryRepositories"
  | "packages"
  | "vulnerabilities"
  | "protectedBranches"
  | "protectedTags"
  | "deployKeys";
/**
 * Of `socket_connection.system_status`; the wire's `processing` is stored as `crawling`.
 */
export type SystemStatus = "idle" | "discovering" | "crawling" | "error";

export interface Contract {
  /**
   * jobs.submit: create these jobs and queue them.
   */
  "jobs.submit": {
    orders: Order[];
  };
  /**
   * jobs.enqueue: the web app has inserted these jobs itself; queue them.
   */
  "jobs.enqueue": {
    job_ids: string[];
  };
  /**
   * jobs.assign: one matchmaking pass.
   */
  "jobs.assign": {};
  /**
   * jobs.cancel: end these jobs, wherever they stand.
   */
  "jobs.cancel": {
    job_ids?: string[] | null;
    account_id?: string | null;
    area?: string | null;
    subtree_of?: string | null;
    reason?: string | null;
  };
  /**
   * jobs.pause: let these jobs wait until they are resumed; of an account also what comes later.
   */
  "jobs.pause": {
    job_ids?: string[] | null;
    account_id?: string | null;
    area?: string | null;
    subtree_of?: string | null;
    reason?: string | null;
  };
  /**
   * jobs.resume: let these jobs go on; of an account those that wait since it is paused.
   */
  "jobs.resume": {
    job_ids?: string[] | null;
    account_id?: string | null;
    area?: string | null;
    subtree_of?: string | null;
    reason?: string | null;
  };
  /**
   * jobs.retry: queue those of the jobs that have failed, in this time, with nothing counted against them.
   */
  "jobs.retry": {
    job_ids?: string[] | null;
    account_id?: string | null;
    area?: string | null;
    subtree_of?: string | null;
    reason?: string | null;
    error_group?: string | null;
    failed_after?: string | null;
    failed_before?: string | null;
  };
  /**
   * jobs.prioritize: give the entries of these jobs another priority.
   */
  "jobs.prioritize": {
    job_ids?: string[] | null;
    account_id?: string | null;
    area?: string | null;
    subtree_of?: string | null;
    reason?: string | null;
    priority: number;
  };
  /**
   * connections.register: a crawler is there; the caller chooses the id.
   */
  "connections.register": {
    connection_id: string;
    crawler_id?: string | null;
    capacity?: number;
    metadata?: {
      [k: string]: unknown;
    } | null;
  };
  /**
   * connections.heartbeat: these connections live.
   */
  "connections.heartbeat": {
    beats: SaidBeat[];
  };
  /**
   * connections.disconnect: a clean goodbye.
   */
  "connections.disconnect": {
    connection_id: string;
    reason?: string | null;
  };
  /**
   * connections.expire_dead: the sweep, judging as of *as_of*; without it, it is only rung.
   */
  "connections.expire_dead": {
    as_of?: string | null;
  };
  /**
   * crawler.frames: what crawlers said, in the order in which they said it.
   */
  "crawler.frames": {
    frames: SaidFrame[];
  };
  /**
   * credentials.refresh: the token of this account has died or is about to; get a new one where we can.
   */
  "credentials.refresh": {
    account_id: string;
  };
  /**
   * credentials.renewed: the web app has written new tokens. *more* is a continuation's.
   */
  "credentials.renewed": {
    account_id: string;
    more?: boolean;
  };
  /**
   * failures.log: put these errors on record.
   */
  "failures.log": {
    errors: Failure[];
  };
  /**
   * failures.resolve: say what became of the errors of one group.
   */
  "failures.resolve": {
    error_group: string;
    resolution: string;
  };
  /**
   * upkeep.reconcile: compare the web app's word with ours. *more* is a continuation's.
   */
  "upkeep.reconcile": {
    more?: boolean;
  };
  /**
   * upkeep.clean_up: delete what is old. *more* is a continuation's.
   */
  "upkeep.clean_up": {
    more?: boolean;
  };
  /**
   * upkeep.feed_deferred: queue deferred jobs whose accounts have room again.
   */
  "upkeep.feed_deferred": {};
  /**
   * upkeep.take_statistics: count what is too dear to be counted by everybody who looks.
   */
  "upkeep.take_statistics": {};
  frame:
    | HeartbeatFrame
    | JobRequestFrame
    | JobStartedFrame
    | JobProgressFrame
    | JobCompletedFrame
    | JobFailedFrame
    | TokenRefreshFrame
    | JobsDiscoveredFrame
    | DiscoveryFrame;
}
/**
 * One job that the web app wants done.
 */
export interface Order {
  account_id: string;
  user_id?: string | null;
  provider: Provider;
  job_type?: ("discover_namespaces" | "crawl_user" | "crawl_group" | "crawl_project") | null;
  command?: Command | null;
  entity_id?: string | null;
  namespace_path?: string | null;
  branch?: string | null;
  gitlab_host: string;
  priority?: number;
  resume?: boolean;
  force?: boolean;
  web_app_job_id?: string | null;
  tags?: string[] | null;
  metadata?: {
    [k: string]: unknown;
  } | null;
}
/**
 * One heartbeat.
 */
export interface SaidBeat {
  connection_id: string;
  system_status?: SystemStatus | "processing" | null;
  active_jobs?: number | string[] | null;
  capacity?: number | null;
}
/**
 * A frame, and the connection that said it.
 */
export interface SaidFrame {
  connection_id: string;
  frame:
    | HeartbeatFrame
    | JobRequestFrame
    | JobStartedFrame
    | JobProgressFrame
    | JobCompletedFrame
    | JobFailedFrame
    | TokenRefreshFrame
    | JobsDiscoveredFrame
    | DiscoveryFrame;
}
/**
 * A crawler's heartbeat.
 */
export interface HeartbeatFrame {
  timestamp: string;
  type: "heartbeat";
  data?: HeartbeatData;
  [k: string]: unknown;
}
/**
 * I live.
 */
export interface HeartbeatData {
  activeJobs?: number | string[] | null;
  totalProcessed?: number | null;
  systemStatus?: SystemStatus | "processing" | null;
  [k: string]: unknown;
}
/**
 * A crawler's wish for work.
 */
export interface JobRequestFrame {
  timestamp: string;
  type: "job_request";
  data?: JobRequestData;
  [k: string]: unknown;
}
/**
 * Give me work.
 */
export interface JobRequestData {
  capacity?: number;
  [k: string]: unknown;
}
/**
 * An attempt began.
 */
export interface JobStartedFrame {
  timestamp: string;
  jobId: string;
  type: "job_started";
  data?: JobStartedData;
  [k: string]: unknown;
}
/**
 * I began.
 */
export interface JobStartedData {
  entityType?: string | null;
  entityId?: string | null;
  [k: string]: unknown;
}
/**
 * An attempt goes on.
 */
export interface JobProgressFrame {
  timestamp: string;
  jobId: string;
  type: "job_progress";
  data: JobProgressData;
  [k: string]: unknown;
}
/**
 * Where I am.
 */
export interface JobProgressData {
  stage: "discovering" | "fetching" | "completed" | "failed";
  entityType: string;
  processed: number;
  total?: number | null;
  message?: string | null;
  itemCounts?: {
    [k: string]: number;
  } | null;
  currentPage?: number | null;
  processingRate?: number | null;
  estimatedTimeRemaining?: number | null;
  resumeState?: ResumeState | null;
  [k: string]: unknown;
}
/**
 * Where the next attempt may start; kept as it came.
 */
export interface ResumeState {
  lastEntityId?: string | null;
  currentPage?: number | null;
  entityType?: string | null;
  [k: string]: unknown;
}
/**
 * An attempt succeeded, or says that it did not.
 */
export interface JobCompletedFrame {
  timestamp: string;
  jobId: string;
  type: "job_completed";
  data?: JobCompletedData;
  [k: string]: unknown;
}
/**
 * Done; with success=false it is a recoverable failure.
 */
export interface JobCompletedData {
  success?: boolean;
  finalCounts?: {
    [k: string]: number;
  };
  message?: string | null;
  outputFiles?: string[] | null;
  [k: string]: unknown;
}
/**
 * An attempt failed.
 */
export interface JobFailedFrame {
  timestamp: string;
  jobId: string;
  type: "job_failed";
  data: JobFailedData;
  [k: string]: unknown;
}
/**
 * I could not.
 */
export interface JobFailedData {
  error: string;
  errorType?: string | null;
  isRecoverable: boolean;
  resumeState?: ResumeState | null;
  partialCounts?: {
    [k: string]: number;
  } | null;
  stackTrace?: string | null;
  context?: {
    [k: string]: unknown;
  } | null;
  [k: string]: unknown;
}
/**
 * An attempt ended, since its account's token died.
 */
export interface TokenRefreshFrame {
  timestamp: string;
  jobId: string;
  type: "token_refresh_request";
  data?: TokenRefreshData;
  [k: string]: unknown;
}
/**
 * My token died.
 */
export interface TokenRefreshData {
  currentTokenExpired?: boolean | null;
  lastSuccessfulRequest?: string | number | null;
  errorDetails?:
    | string
    | {
        [k: string]: unknown;
      }
    | null;
  [k: string]: unknown;
}
/**
 * An attempt has found what else there is.
 */
export interface JobsDiscoveredFrame {
  timestamp: string;
  jobId: string;
  type: "jobs_discovered";
  data: JobsDiscoveredData;
  [k: string]: unknown;
}
/**
 * These exist too.
 */
export interface JobsDiscoveredData {
  discoveredJobs: DiscoveredJob[];
  discoverySummary?: DiscoverySummary;
  [k: string]: unknown;
}
/**
 * Something that exists too.
 */
export interface DiscoveredJob {
  jobType: "discover_namespaces" | "crawl_user" | "crawl_group" | "crawl_project";
  entityId: string;
  namespacePath: string;
  entityName: string;
  priority?: number;
  estimatedSize?: number | null;
  [k: string]: unknown;
}
/**
 * What a discovery found in all, in the crawler's words.
 */
export interface DiscoverySummary {
  totalUsers?: number | null;
  totalGroups?: number | null;
  totalProjects?: number | null;
  hierarchyDepth?: number | null;
  [k: string]: unknown;
}
/**
 * An attempt has found what else there is, in the older form.
 */
export interface DiscoveryFrame {
  timestamp: string;
  jobId: string;
  type: "discovery";
  data: DiscoveryData;
  [k: string]: unknown;
}
/**
 * These exist too, in the older form: all of one kind.
 */
export interface DiscoveryData {
  entityType: "group" | "groups" | "project" | "projects" | "user" | "users";
  entities: DiscoveredEntity[];
  [k: string]: unknown;
}
/**
 * Something that exists too, in the older form.
 */
export interface DiscoveredEntity {
  id: string;
  name: string;
  path: string;
  parentId?: string | null;
  [k: string]: unknown;
}
/**
 * An error of a job, to be put on record; it changes nothing else.
 */
export interface Failure {
  job_id?: string | null;
  crawler_job_id?: string | null;
  error_type: string;
  error_message: string;
  stack_trace?: string | null;
  context?: {
    [k: string]: unknown;
  } | null;
  is_recoverable?: boolean;
}
