"""
The jobs below a job: what its discovery spawned, at any depth. As parts of SQL, one down and one up the tree.

Down the tree leads the index on `job_queue.spawned_from`. It holds every job that was ever queued, which is enough
to read progress. A command must find the other jobs too, but `job` has no index on its parents: a page of jobs is
checked against the root by way of its ancestors instead.
"""

SUBTREE = """
    WITH RECURSIVE family AS (
        SELECT id FROM job WHERE id = :id
        UNION SELECT entry.web_app_job_id FROM job_queue entry JOIN family ON entry.spawned_from = family.id
    )
"""
"""`family` is the job :id with the jobs below it. docs/contract.md has this for readers in other languages."""

ANCESTORS = """
    ancestors AS (
        -- Up from the page, not down from the root: each step is one probe of the primary key. Joined without
        -- LIMIT, a page hashes the whole table.
        SELECT parent.* FROM (SELECT DISTINCT spawned_from FROM scanned) child
         CROSS JOIN LATERAL (SELECT id, spawned_from FROM job WHERE id = child.spawned_from LIMIT 1) parent
        UNION
        SELECT parent.* FROM ancestors child
         CROSS JOIN LATERAL (SELECT id, spawned_from FROM job WHERE id = child.spawned_from LIMIT 1) parent
    ), family AS (
        SELECT CAST(:value AS text) AS id
        UNION
        SELECT ancestors.id FROM ancestors JOIN family ON ancestors.spawned_from = family.id
    )
"""
"""`family` is the job :value with those of the ancestors of the page `scanned` that are below it."""
