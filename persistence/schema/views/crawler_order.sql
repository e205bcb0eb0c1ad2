-- Revision 0012. What a gateway hands to a crawler, one row a live attempt; it adds the account's token itself.
CREATE OR REPLACE VIEW crawler_order AS
SELECT assignment.crawler_job_id,
       connection.id AS connection_id,
       job.command::text AS command,
       CASE job.command::text
           WHEN 'GROUP_PROJECT_DISCOVERY' THEN 'areas'
           WHEN 'users' THEN 'user'
           WHEN 'issues' THEN 'issue'
           WHEN 'mergeRequests' THEN 'merge_request'
           WHEN 'commits' THEN 'commit'
           WHEN 'branches' THEN 'branch'
           WHEN 'pipelines' THEN 'pipeline'
           ELSE job.command::text
       END AS "entityType",
       -- A job that was made for another id than its path's area has is ordered with its own, until it is linked to it.
       -- The area whose path differs in case alone is the job's too, if it is linked to it.
       COALESCE(CASE WHEN entry.data -> 'without_area' IS NULL THEN area.gitlab_id END,
                (SELECT linked.gitlab_id FROM job_area link JOIN area linked ON linked.full_path = link.full_path
                  WHERE link."jobId" = job.id
                    AND lower(link.full_path COLLATE "C") = lower(job.full_path COLLATE "C") LIMIT 1),
                entry.data ->> 'entity_id', job.full_path) AS "entityId",
       -- What was approved for the token. An attempt of an older worker has none.
       COALESCE(assignment.gitlab_url,
                substring(regexp_replace(btrim(job."gitlabGraphQLUrl", E' \t\r\n'), '(/api/graphql)?/?$', '')
                          FROM '(?i)^[a-z]+://[^?#]+$')) AS "gitlabUrl",
       job.resume_state,
       jsonb_path_query_array(assignment.discoveries, '$[*].timestamp') AS discoveries,
       assignment.account_id
  FROM socket_connection connection
       CROSS JOIN LATERAL jsonb_array_elements_text(connection.active_jobs) AS seat(crawler_job_id)
  JOIN job_assignment_mapping assignment ON assignment.crawler_job_id = seat.crawler_job_id COLLATE "C"
  JOIN job ON job.id = assignment.web_app_job_id
  LEFT JOIN job_queue entry ON entry.web_app_job_id = assignment.web_app_job_id
  LEFT JOIN area ON area.full_path = job.full_path
 WHERE assignment.status IN ('assigned', 'running');
