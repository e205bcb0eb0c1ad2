"""The result of a run, as text and as JSON."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from proofs.chaos.accounting.verdict import Verdict
from proofs.chaos.run import Outcome

_IDS_A_FAULT = 20


def as_json(outcome: Outcome, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the whole result."""
    sums = outcome.verdict
    return {
        **options,
        "good": outcome.is_good,
        "faults_done": dict(outcome.done),
        "ordered": sums.ordered,
        "discovered": sums.discovered,
        "ended": sums.finished + sums.failed + sums.cancelled,
        "finished": sums.finished,
        "failed": sums.failed,
        "cancelled": sums.cancelled,
        "recovered": sums.recovered,
        "losses": dict(sums.losses),
        "stale_words": sums.stale_words,
        "stale_work": sums.stale_work,
        "rejected_by_the_contract": sums.answered,
        "messages": outcome.messages,
        "wrong": {what: ids for what, ids in sums.faults.items() if ids},
        "books": outcome.audit_faults,
        "crashes": outcome.crashes,
        "settled_seconds": outcome.settled_s,
        "seconds": round(outcome.seconds, 1),
    }


def write(path: Path, outcome: Outcome, options: Mapping[str, Any]) -> None:
    """Write the result as JSON to a file."""
    path.write_text(json.dumps(as_json(outcome, options), indent=2) + "\n")


def text(outcome: Outcome) -> str:
    """Return the result as text."""
    sums = outcome.verdict
    done = [f"  {number:5}  {name}" for name, number in sorted(outcome.done.items())]
    lines = [
        f"{sum(outcome.done.values())} faults done:",
        *done,
        f"  {_list(outcome.messages)}",
        *_jobs(sums),
        f"attempts lost: {_list(sums.losses) or 'none'}",
        f"stale frames: {sums.stale_words}; attempts worked on after they were closed: {sums.stale_work}",
        f"wrongly expired: {len(sums.wrongly_expired)}",
        f"rejected messages: {len(sums.rejected)}, and {sums.answered} registrations of a closed connection",
        _settled(outcome),
        *_complaints(outcome),
    ]
    return "\n".join(lines)


def _jobs(sums: Verdict) -> list[str]:
    ends = f"{sums.finished} finished, {sums.failed} failed, {sums.cancelled} cancelled"
    twice = f"{len(sums.completed_twice)} completed twice, {len(sums.worked_twice)} worked on twice"
    return [
        f"jobs: {sums.ordered} ordered, {sums.discovered} discovered; {ends}",
        f"      {len(sums.lost)} lost, {twice}, {len(sums.unexpected)} unexpected, {sums.recovered} recovered",
    ]


def _settled(outcome: Outcome) -> str:
    if outcome.settled_s is None:
        return f"NOT settled in time; {outcome.seconds:.0f} s in all"
    return (
        f"settled {outcome.settled_s:.1f} s after the last fault was undone; {outcome.seconds:.0f} s in all"
    )


def _complaints(outcome: Outcome) -> list[str]:
    wrong = [
        f"WRONG: {len(ids)} {what}: {', '.join(ids[:_IDS_A_FAULT])}"
        for what, ids in outcome.verdict.faults.items()
        if ids
    ]
    wrong += [f"WRONG: {fault}" for fault in outcome.audit_faults]
    return wrong + [f"WRONG: {name} crashed {n} times" for name, n in outcome.crashes.items()]


def _list(numbers: Mapping[str, int]) -> str:
    return ", ".join(f"{number} {what}" for what, number in sorted(numbers.items()))
