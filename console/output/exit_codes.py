"""How the command ends: what went wrong is one line on standard error, and the exit code says whose fault it was."""

import os
import sys
from collections.abc import Callable

import click

FAILED_CHECK = 1
WRONG_REQUEST = 2
INTERRUPTED = 130
"""As a shell reports SIGINT."""
BROKEN_PIPE = 1
"""As click and rich end, where they meet it first."""


def ended(command: Callable[[], object]) -> int:
    """Run *command* to its end, whichever it is; returns the exit code."""
    try:
        status = command()
        sys.stdout.flush()  # or a broken pipe would show as the interpreter's own last words
    except (KeyboardInterrupt, click.Abort):
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except Exception as error:  # noqa: BLE001 - what is not ours to say is raised again
        return _complained(error)
    return status if isinstance(status, int) else 0


def _complained(error: Exception) -> int:
    """Say what is wrong, if it is ours to say; anything else is a fault of ours, and shows its trace."""
    from console.output.urls import reason  # noqa: PLC0415 - a command that fails early has not loaded it
    from persistence.exceptions import CrawlyardError  # noqa: PLC0415

    if not isinstance(error, CrawlyardError):
        raise error
    click.echo(f"crawlyard: {reason(error)}", err=True)
    return WRONG_REQUEST
