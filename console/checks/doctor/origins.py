"""The doctor's examination of where tokens may go: the list of GitLabs, the accounts bound to them, older workers."""

from sqlalchemy import Connection

from console.checks.doctor.finding import Finding, judged
from console.output.screen import counted
from persistence.reports.origins import origin_summary
from persistence.settings import PREFIX, settings

_LIST = f"{PREFIX}ALLOWED_ORIGINS"


def examine_origins(connection: Connection) -> list[Finding]:
    """Examine where the tokens of accounts may go."""
    found = origin_summary(connection)
    findings = [_allowed(found.elsewhere)]
    if found.held:
        findings.append(
            Finding(
                "held jobs",
                "warning",
                f"{counted(found.held, 'queued job')} would send a token to another GitLab than its account's",
                "See `crawlyard accounts list`; bind the accounts by `crawlyard accounts bind`, or correct the jobs.",
            )
        )
    findings.append(
        judged(
            "older workers",
            f"{counted(found.unapproved, 'live attempt')} of workers that send a token wherever a job says"
            if found.unapproved
            else "none seen: every live attempt has an approved URL",
            good=not found.unapproved,
            remedy="Stop the workers of 0.4.1: the check of origins holds once they are gone and these attempts ended.",
            otherwise="warning",
        )
    )
    if found.unfinished_moves:
        findings.append(
            Finding(
                "moved GitLabs",
                "warning",
                f"not all is carried over that was stored for {', '.join(found.unfinished_moves)}",
                "Run the same `crawlyard gitlab moved` again: it goes on where it was.",
            )
        )
    return findings


def _allowed(elsewhere: int) -> Finding:
    if not settings().allowed_origins:
        return Finding(
            "GitLabs",
            "warning",
            "an account is bound to the GitLab of its first https job, whichever that is",
            f"Set {_LIST} to the GitLabs that you serve.",
        )
    return judged(
        "GitLabs",
        f"{counted(elsewhere, 'account')} bound to one that {_LIST} does not name"
        if elsewhere
        else "all accounts are bound to one that is allowed",
        good=not elsewhere,
        remedy="See `crawlyard accounts list`: were they bound by an operator, or before the list was set?",
        otherwise="warning",
    )
