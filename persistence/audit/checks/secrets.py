"""
Tokens live in `account` alone.

What is about an account is searched for its own tokens, wherever in a text they stand. What is about
nobody is cut into words, and searched for everybody's: a text searched for each token of a thousand
accounts would take a thousand times as long.
"""

from persistence.audit.checks.check import Check

_SHORTEST = 12
"""What is shorter is no token, but a word that may be anywhere."""

_COLUMNS = ("access_token", "refresh_token", "id_token")

_TOKENS = f"""
    SELECT token FROM account, unnest(ARRAY[{", ".join(_COLUMNS)}]) token WHERE length(token) >= {_SHORTEST}
"""  # noqa: S608 - no input is in it

_LONGEST = 200
"""Of a word so much is looked for; a regular expression counts no further than 255."""


def _words(text: str, least: str) -> str:
    """SQL for the words of a JSON *text*, whose line ends are two characters there, of *least* letters or more."""
    apart = text
    for escape in ("n", "t", "r"):
        apart = rf"replace({apart}, '\{escape}', ' ')"
    return f"regexp_matches({apart}, '[A-Za-z0-9_-]{{' || {least} || ',}}', 'g')"


def _check_own_tokens(name: str, subject: str, rows: str) -> Check:
    """A check of *rows* (id, account_id, said), each about an account."""
    tokens = ", ".join(
        f"CASE WHEN length({token}) >= {_SHORTEST} THEN {token} END AS {token}" for token in _COLUMNS
    )
    found = " OR ".join(f"strpos(t.said, {token}) > 0" for token in _COLUMNS)
    query = f"""
        -- OFFSET 0: each is put together once, not once for each look at it.
        SELECT t.id FROM ({rows} OFFSET 0) t
          JOIN (SELECT id, {tokens} FROM account OFFSET 0) account ON account.id = t.account_id
         WHERE {found}
    """  # noqa: S608
    return Check(name, f"{subject} holds no token of its account.", query)


def _check_all_tokens(name: str, subject: str, rows: str) -> Check:
    """A check of *rows* (id, said), about whomever."""
    query = f"""
        WITH token AS MATERIALIZED (
            SELECT DISTINCT ON (token) token, word[1] AS word FROM ({_TOKENS}) t, {_words("token", "1")} word
             ORDER BY token, length(word[1]) DESC
        ), length AS MATERIALIZED (SELECT LEAST(min(length(word)), {_LONGEST}) AS least FROM token)
        SELECT DISTINCT t.id FROM length, ({rows} OFFSET 0) t, {_words("t.said", "least")} heard
          JOIN token ON token.word = heard[1]
         WHERE strpos(t.said, token.token) > 0
    """  # noqa: S608
    return Check(name, f"{subject} holds no token of anybody.", query)


CHECKS = (
    _check_own_tokens(
        "no_token_in_errors",
        "An error",
        """
        SELECT e.id, job."accountId" AS account_id,
               concat_ws(' ', e.error_type, e.error_message, e.stack_trace, e.context, e.resolution) AS said
          FROM job_error_log e JOIN job ON job.id = e.job_id
        """,
    ),
    _check_own_tokens(
        "no_token_in_jobs",
        "A job, with its queue entry and what its crawler said of it,",
        """
        SELECT job.id, job."accountId" AS account_id,
               concat_ws(' ', job.progress, job.resume_state, q.data, q.error) AS said
          FROM job LEFT JOIN job_queue q ON q.web_app_job_id = job.id
        """,
    ),
    _check_own_tokens(
        "no_token_in_events",
        "An event (by xid and id)",
        """
        SELECT xid || ' ' || id AS id, account_id, payload::text AS said FROM dispatch_event
         WHERE account_id IS NOT NULL
        """,
    ),
    _check_all_tokens(
        "no_token_in_rejected_messages",
        "A rejected message",
        """
        SELECT id, concat_ws(' ', task, message_id, reason, detail, payload) AS said FROM rejected_message
        """,
    ),
    _check_all_tokens(
        "no_token_in_connections",
        "A connection",
        """
        SELECT id, concat_ws(' ', crawler_id, metadata, reported_jobs) AS said FROM socket_connection
         WHERE metadata IS NOT NULL OR crawler_id IS NOT NULL
        """,
    ),
)
