// Generated from `crawlyard contract` by `npm run types`: the payload of every task, by name. Do not edit.

/**
 * `job.provider` and `account.provider_id`.
 */
export type Provider = "gitlab-onprem" | "gitlab-cloud" | "jiralocal" | "jiracloud";
/**
 * `job.command`: what is to be crawled.
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
 * `socket_connection.system_status`; a reported `processing` is stored as `crawling`.
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
   * jobs.enqueue: queue these jobs, which the web app has inserted itself.
   */
  "jobs.enqueue": {
    job_ids: string[];
  };
  /**
   * jobs.assign: run one assignment round.
   */
  "jobs.assign": {};
  /**
   * jobs.cancel: cancel these jobs, whatever their state.
   */
  "jobs.cancel": {
    job_ids?: string[] | null;
    account_id?: string | null;
    area?: string | null;
    subtree_of?: string | null;
    reason?: string | null;
  };
  /**
   * jobs.pause: pause these jobs until they are resumed; with account_id, future jobs of the account too.
   */
  "jobs.pause": {
    job_ids?: string[] | null;
    account_id?: string | null;
    area?: string | null;
    subtree_of?: string | null;
    reason?: string | null;
  };
  /**
   * jobs.resume: resume these jobs; with account_id, the account and the jobs that its pause keeps waiting.
   */
  "jobs.resume": {
    job_ids?: string[] | null;
    account_id?: string | null;
    area?: string | null;
    subtree_of?: string | null;
    reason?: string | null;
  };
  /**
   * jobs.retry: queue failed jobs among these again, with attempts, losses and disconnects reset to 0.
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
   * jobs.prioritize: change the priority of these jobs' entries.
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
   * connections.register: open a crawler's connection under an id that the caller chose.
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
   * connections.attach: these connections are reached over new links; those that are not there yet are opened.
   */
  "connections.attach": {
    links: SaidLink[];
  };
  /**
   * connections.lost: a link has ended without a goodbye.
   */
  "connections.lost": {
    connection_id: string;
    n: number;
    link: string;
  };
  /**
   * connections.heartbeat: these connections are alive.
   */
  "connections.heartbeat": {
    beats: SaidBeat[];
  };
  /**
   * connections.disconnect: close a connection cleanly.
   */
  "connections.disconnect": {
    connection_id: string;
    reason?: string | null;
  };
  /**
   * connections.expire_dead: expire the connections silent at as_of; without it, publish a sweep as of now.
   */
  "connections.expire_dead": {
    as_of?: string | null;
  };
  /**
   * crawler.frames: frames of crawlers, in the order in which they were sent.
   */
  "crawler.frames": {
    frames: SaidFrame[];
  };
  /**
   * credentials.refresh: refresh the token of this account, which no longer works or is about to expire.
   */
  "credentials.refresh": {
    account_id: string;
  };
  /**
   * credentials.renewed: the web app has written new tokens. Set more=true only in a continuation.
   */
  "credentials.renewed": {
    account_id: string;
    more?: boolean;
  };
  /**
   * failures.log: add these errors to the error log.
   */
  "failures.log": {
    errors: Failure[];
  };
  /**
   * failures.resolve: set the resolution of all errors of one group.
   */
  "failures.resolve": {
    error_group: string;
    resolution: string;
  };
  /**
   * areas.decide: make these proposed changes of areas, or reject them.
   */
  "areas.decide": {
    change_ids: string[];
    accept: boolean;
  };
  /**
   * upkeep.reconcile: follow changes that the web app made to jobs. Set more=true only in a continuation.
   */
  "upkeep.reconcile": {
    more?: boolean;
  };
  /**
   * upkeep.clean_up: delete old rows. Set more=true only in a continuation.
   */
  "upkeep.clean_up": {
    more?: boolean;
  };
  /**
   * upkeep.feed_deferred: queue deferred jobs of accounts that are below pending_cap again.
   */
  "upkeep.feed_deferred": {};
  /**
   * upkeep.take_statistics: count the figures that are too expensive to count on every request.
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
  "protocol_1.crawler":
    | HelloFrame
    | SentHeartbeatFrame
    | SentJobRequestFrame
    | GoodbyeFrame
    | PingFrame
    | PongFrame
    | SentJobStartedFrame
    | SentJobProgressFrame
    | SentJobsDiscoveredFrame
    | SentDiscoveryFrame
    | SentJobCompletedFrame
    | SentJobFailedFrame
    | SentTokenRefreshFrame;
  "protocol_1.gateway":
    WelcomeFrame | JobResponseFrame | JobRevokedFrame | AckFrame | ShutdownFrame | ErrorFrame | PingFrame | PongFrame;
}
/**
 * One job that the web app wants crawled.
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
 * One link of a crawler to a gateway.
 */
export interface SaidLink {
  connection_id: string;
  crawler_id?: string | null;
  n: number;
  link: string;
  gateway: string;
  capacity?: number;
  session_hash: string;
  credential_id?: string | null;
}
/**
 * One heartbeat.
 */
export interface SaidBeat {
  connection_id: string;
  system_status?: SystemStatus | "processing" | null;
  active_jobs?: number | string[] | null;
  capacity?: number | null;
  timestamp?: string | null;
}
/**
 * A frame, and the connection that sent it.
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
 * The crawler is alive.
 */
export interface HeartbeatData {
  activeJobs?: number | string[] | null;
  totalProcessed?: number | null;
  systemStatus?: SystemStatus | "processing" | null;
  [k: string]: unknown;
}
/**
 * A crawler's request for work.
 */
export interface JobRequestFrame {
  timestamp: string;
  type: "job_request";
  data?: JobRequestData;
  [k: string]: unknown;
}
/**
 * The crawler asks for work.
 */
export interface JobRequestData {
  capacity?: number;
  [k: string]: unknown;
}
/**
 * An attempt started.
 */
export interface JobStartedFrame {
  timestamp: string;
  jobId: string;
  type: "job_started";
  data?: JobStartedData;
  [k: string]: unknown;
}
/**
 * The crawler started the job.
 */
export interface JobStartedData {
  entityType?: string | null;
  entityId?: string | null;
  [k: string]: unknown;
}
/**
 * An attempt made progress.
 */
export interface JobProgressFrame {
  timestamp: string;
  jobId: string;
  type: "job_progress";
  data: JobProgressData;
  [k: string]: unknown;
}
/**
 * How far the crawler got.
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
 * Where the next attempt may resume; stored unchanged.
 */
export interface ResumeState {
  lastEntityId?: string | null;
  currentPage?: number | null;
  entityType?: string | null;
  [k: string]: unknown;
}
/**
 * An attempt completed, successfully or not.
 */
export interface JobCompletedFrame {
  timestamp: string;
  jobId: string;
  type: "job_completed";
  data?: JobCompletedData;
  [k: string]: unknown;
}
/**
 * The job is done; success=false makes it a recoverable failure.
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
 * The job failed.
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
 * An attempt ended because the account's token no longer works.
 */
export interface TokenRefreshFrame {
  timestamp: string;
  jobId: string;
  type: "token_refresh_request";
  data?: TokenRefreshData;
  [k: string]: unknown;
}
/**
 * The token of the account no longer works.
 */
export interface TokenRefreshData {
  current_token_expired?: boolean | null;
  last_successful_request?: string | number | null;
  error_details?:
    | string
    | {
        [k: string]: unknown;
      }
    | null;
  [k: string]: unknown;
}
/**
 * A discovery found groups, projects and users.
 */
export interface JobsDiscoveredFrame {
  timestamp: string;
  jobId: string;
  type: "jobs_discovered";
  data: JobsDiscoveredData;
  [k: string]: unknown;
}
/**
 * The groups, projects and users that a discovery found.
 */
export interface JobsDiscoveredData {
  discovered_jobs: DiscoveredJob[];
  discovery_summary?: DiscoverySummary;
  [k: string]: unknown;
}
/**
 * A group, project or user that a discovery found.
 */
export interface DiscoveredJob {
  job_type: "discover_namespaces" | "crawl_user" | "crawl_group" | "crawl_project";
  entity_id: string;
  namespace_path: string;
  entity_name: string;
  priority?: number;
  estimated_size?: number | null;
  [k: string]: unknown;
}
/**
 * The totals of a discovery, as the crawler counted them.
 */
export interface DiscoverySummary {
  total_users?: number | null;
  total_groups?: number | null;
  total_projects?: number | null;
  hierarchy_depth?: number | null;
  [k: string]: unknown;
}
/**
 * A discovery found groups, projects or users, in the older form.
 */
export interface DiscoveryFrame {
  timestamp: string;
  jobId: string;
  type: "discovery";
  data: DiscoveryData;
  [k: string]: unknown;
}
/**
 * The groups, projects or users that a discovery found, in the older form: all of one kind.
 */
export interface DiscoveryData {
  entityType: "group" | "groups" | "project" | "projects" | "user" | "users";
  entities: DiscoveredEntity[];
  [k: string]: unknown;
}
/**
 * A group, project or user that a discovery found, in the older form.
 */
export interface DiscoveredEntity {
  id: string;
  name: string;
  path: string;
  parentId?: string | null;
  [k: string]: unknown;
}
/**
 * An error of a job for the error log; it does not change the job.
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
/**
 * The first frame of a link.
 */
export interface HelloFrame {
  timestamp?: string | null;
  type: "hello";
  data: HelloData;
  [k: string]: unknown;
}
/**
 * Who is there.
 */
export interface HelloData {
  protocol: 1;
  crawlerId: string;
  n: number;
  secret?: string | null;
  session?: string | null;
  capacity?: number | null;
  activeJobs?: number | string[] | null;
  [k: string]: unknown;
}
/**
 * The crawler is alive, and works on these jobs.
 */
export interface SentHeartbeatFrame {
  timestamp?: string | null;
  type: "heartbeat";
  data?: HeartbeatData1;
  [k: string]: unknown;
}
/**
 * The crawler is alive.
 */
export interface HeartbeatData1 {
  activeJobs?: number | string[] | null;
  totalProcessed?: number | null;
  systemStatus?: SystemStatus | "processing" | null;
  [k: string]: unknown;
}
/**
 * How many jobs the crawler works on at once, from now on.
 */
export interface SentJobRequestFrame {
  timestamp?: string | null;
  type: "job_request";
  data?: JobRequestData1;
  [k: string]: unknown;
}
/**
 * The crawler asks for work.
 */
export interface JobRequestData1 {
  capacity?: number;
  [k: string]: unknown;
}
/**
 * A clean end: the session is over, and the jobs go to others.
 */
export interface GoodbyeFrame {
  timestamp?: string | null;
  type: "goodbye";
  data?: GoodbyeData;
  [k: string]: unknown;
}
/**
 * Why the crawler leaves.
 */
export interface GoodbyeData {
  reason?: string | null;
  [k: string]: unknown;
}
/**
 * Asks the other side for a pong.
 */
export interface PingFrame {
  timestamp?: string | null;
  type: "ping";
  data: NonceData;
  [k: string]: unknown;
}
/**
 * What a pong repeats of its ping.
 */
export interface NonceData {
  nonce: string;
  [k: string]: unknown;
}
/**
 * Answers a ping.
 */
export interface PongFrame {
  timestamp?: string | null;
  type: "pong";
  data: NonceData;
  [k: string]: unknown;
}
/**
 * An attempt started.
 */
export interface SentJobStartedFrame {
  timestamp: string;
  jobId: string;
  type: "job_started";
  data?: JobStartedData1;
  id?: string | null;
  [k: string]: unknown;
}
/**
 * The crawler started the job.
 */
export interface JobStartedData1 {
  entityType?: string | null;
  entityId?: string | null;
  [k: string]: unknown;
}
/**
 * An attempt made progress.
 */
export interface SentJobProgressFrame {
  timestamp: string;
  jobId: string;
  type: "job_progress";
  data: JobProgressData;
  id?: string | null;
  [k: string]: unknown;
}
/**
 * A discovery found groups, projects and users.
 */
export interface SentJobsDiscoveredFrame {
  timestamp: string;
  jobId: string;
  type: "jobs_discovered";
  data: JobsDiscoveredData;
  id?: string | null;
  [k: string]: unknown;
}
/**
 * A discovery found groups, projects or users, in the older form.
 */
export interface SentDiscoveryFrame {
  timestamp: string;
  jobId: string;
  type: "discovery";
  data: DiscoveryData;
  id?: string | null;
  [k: string]: unknown;
}
/**
 * An attempt completed, successfully or not.
 */
export interface SentJobCompletedFrame {
  timestamp: string;
  jobId: string;
  type: "job_completed";
  data?: JobCompletedData1;
  id?: string | null;
  [k: string]: unknown;
}
/**
 * The job is done; success=false makes it a recoverable failure.
 */
export interface JobCompletedData1 {
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
export interface SentJobFailedFrame {
  timestamp: string;
  jobId: string;
  type: "job_failed";
  data: JobFailedData;
  id?: string | null;
  [k: string]: unknown;
}
/**
 * An attempt ended because the account's token no longer works.
 */
export interface SentTokenRefreshFrame {
  timestamp: string;
  jobId: string;
  type: "token_refresh_request";
  data?: TokenRefreshData1;
  id?: string | null;
  [k: string]: unknown;
}
/**
 * The token of the account no longer works.
 */
export interface TokenRefreshData1 {
  current_token_expired?: boolean | null;
  last_successful_request?: string | number | null;
  error_details?:
    | string
    | {
        [k: string]: unknown;
      }
    | null;
  [k: string]: unknown;
}
/**
 * The answer to hello.
 */
export interface WelcomeFrame {
  timestamp?: string | null;
  type: "welcome";
  data: WelcomeData;
  [k: string]: unknown;
}
/**
 * Which connection the crawler has.
 */
export interface WelcomeData {
  connectionId: string;
  session: string;
  jobs: OrderedJob[];
  heartbeatInterval: number;
  maxFrameBytes: number;
  [k: string]: unknown;
}
/**
 * One try of one job.
 */
export interface OrderedJob {
  id: string;
  entityType: string;
  entityId: string | null;
  gitlabUrl: string;
  accessToken: string;
  resumeState?: ResumeState | null;
  [k: string]: unknown;
}
/**
 * Orders.
 */
export interface JobResponseFrame {
  timestamp?: string | null;
  type: "job_response";
  data: JobResponseData;
  [k: string]: unknown;
}
/**
 * What is to be done.
 */
export interface JobResponseData {
  jobs: OrderedJob[];
  [k: string]: unknown;
}
/**
 * An order that the crawler drops.
 */
export interface JobRevokedFrame {
  timestamp?: string | null;
  type: "job_revoked";
  jobId: string;
  data: RevokedData;
  [k: string]: unknown;
}
/**
 * Why an order was revoked.
 */
export interface RevokedData {
  reason: string;
  [k: string]: unknown;
}
/**
 * A frame has been handled, and the crawler may forget it.
 */
export interface AckFrame {
  timestamp?: string | null;
  type: "ack";
  data: AckData;
  [k: string]: unknown;
}
/**
 * Which frame was handled.
 */
export interface AckData {
  id: string;
  [k: string]: unknown;
}
/**
 * The gateway is about to close the link.
 */
export interface ShutdownFrame {
  timestamp?: string | null;
  type: "shutdown";
  data: ShutdownData;
  [k: string]: unknown;
}
/**
 * When the link closes, and when to connect again.
 */
export interface ShutdownData {
  graceful: boolean;
  timeoutSeconds: number;
  reason: string;
  reconnectAfterSeconds: number;
  [k: string]: unknown;
}
/**
 * A frame, or the link, was refused.
 */
export interface ErrorFrame {
  timestamp?: string | null;
  type: "error";
  data: ErrorData;
  [k: string]: unknown;
}
/**
 * What was wrong.
 */
export interface ErrorData {
  code: string;
  message: string;
  closes: boolean;
  id?: string | null;
  retryAfterSeconds?: number | null;
  [k: string]: unknown;
}
