"""
Tokens are stored in `account` only.

Texts about an account are searched for its own tokens, anywhere in the text. Texts about no account are split into
words, which are looked up among the words of all tokens: searching each text for each token of a thousand accounts
would take a thousand times as long.
"""

from typing import Final

from persistence.audit.checks.check import Check
from persistence.schema.sql import fragment

_SHORTEST: Final = "12"
"""A shorter value is not taken for a token: it may be a word that stands anywhere."""

_LONGEST: Final = "200"
"""Only this much of a word is compared: a regular expression repeats at most 255 times."""

_WORDS = r"""
    regexp_matches(replace(replace(replace($content, '\n', ' '), '\t', ' '), '\r', ' '),
                   '[A-Za-z0-9_-]{' || $least || ',}', 'g')
"""
"""The words of a JSON text, in which a line end is two characters, of *least* letters or more."""


def _check_own_tokens(name: str, subject: str, rows: str) -> Check:
    """A check of *rows* (id, account_id, content), each about an account."""
    query = fragment(
        """
        -- OFFSET 0: each text is built once, not once for each comparison.
        SELECT t.id FROM ($rows OFFSET 0) t
          JOIN (SELECT id,
                       CASE WHEN length(access_token) >= $shortest THEN access_token END AS access_token,
                       CASE WHEN length(refresh_token) >= $shortest THEN refresh_token END AS refresh_token,
                       CASE WHEN length(id_token) >= $shortest THEN id_token END AS id_token
                  FROM account OFFSET 0) account ON account.id = t.account_id
         WHERE strpos(t.content, access_token) > 0
            OR strpos(t.content, refresh_token) > 0
            OR strpos(t.content, id_token) > 0
        """,
        rows=rows,
        shortest=_SHORTEST,
    )
    return Check(name, f"{subject} contains no token of its account.", query)


def _check_all_tokens(name: str, subject: str, rows: str) -> Check:
    """A check of *rows* (id, content), which are about no account."""
    query = fragment(
        """
        WITH token AS MATERIALIZED (
            SELECT DISTINCT ON (token) token, word[1] AS word
              FROM (SELECT token FROM account, unnest(ARRAY[access_token, refresh_token, id_token]) token
                     WHERE length(token) >= $shortest) t, $words_of_token word
             ORDER BY token, length(word[1]) DESC
        ), length AS MATERIALIZED (SELECT LEAST(min(length(word)), $longest) AS least FROM token)
        SELECT DISTINCT t.id FROM length, ($rows OFFSET 0) t, $words_of_text found
          JOIN token ON token.word = found[1]
         WHERE strpos(t.content, token.token) > 0
        """,
        rows=rows,
        shortest=_SHORTEST,
        longest=_LONGEST,
        words_of_token=fragment(_WORDS, content="token", least="1"),
        words_of_text=fragment(_WORDS, content="t.content", least="least"),
    )
    return Check(name, f"{subject} contains no token of any account.", query)


CHECKS = (
    _check_own_tokens(
        "no_token_in_errors",
        "An error",
        """
        SELECT e.id, job."accountId" AS account_id,
               concat_ws(' ', e.error_type, e.error_message, e.stack_trace, e.context, e.resolution) AS content
          FROM job_error_log e JOIN job ON job.id = e.job_id
        """,
    ),
    _check_own_tokens(
        "no_token_in_jobs",
        "A job, with its queue entry and the progress its crawler reported,",
        """
        SELECT job.id, job."accountId" AS account_id,
               concat_ws(' ', job.progress, job.resume_state, q.data, q.error) AS content
          FROM job LEFT JOIN job_queue q ON q.web_app_job_id = job.id
        """,
    ),
    _check_own_tokens(
        "no_token_in_events",
        "An event (by xid and id)",
        """
        SELECT xid || ' ' || id AS id, account_id, payload::text AS content FROM dispatch_event
         WHERE account_id IS NOT NULL
        """,
    ),
    _check_all_tokens(
        "no_token_in_rejected_messages",
        "A rejected message",
        """
        SELECT id, concat_ws(' ', task, message_id, reason, detail, payload) AS content FROM rejected_message
        """,
    ),
    _check_all_tokens(
        "no_token_in_connections",
        "A connection",
        """
        SELECT id, concat_ws(' ', crawler_id, metadata, reported_jobs) AS content FROM socket_connection
         WHERE metadata IS NOT NULL OR crawler_id IS NOT NULL
        """,
    ),
)
