"""How the command ends: an error is one line on standard error, and the exit code gives its kind."""

import os
import sys
from collections.abc import Callable

import click

FAILED_CHECK = 1
WRONG_REQUEST = 2
INTERRUPTED = 130
"""The code by which a shell reports SIGINT."""
BROKEN_PIPE = 1
"""The code with which click and rich exit if they meet the broken pipe first."""


def ended(command: Callable[[], object]) -> int:
    """Run *command*, report its error if it has one, and return the exit code."""
    try:
        status = command()
        sys.stdout.flush()  # otherwise the interpreter would report a broken pipe itself when it exits
    except (KeyboardInterrupt, click.Abort):
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except Exception as error:  # noqa: BLE001 - raised again unless it is a CrawlyardError
        return _reported(error)
    return status if isinstance(status, int) else 0


def _reported(error: Exception) -> int:
    """Report a CrawlyardError in one line. Any other exception is a bug, and is raised again with its traceback."""
    from console.output.urls import reason  # noqa: PLC0415 - only errors need it
    from persistence.exceptions import CrawlyardError  # noqa: PLC0415
    from tasks.start.temporary_folder import why_no_temporary_folder  # noqa: PLC0415

    if isinstance(error, FileNotFoundError) and error.filename is None and (why := why_no_temporary_folder()):
        click.echo(f"crawlyard: {why}", err=True)
        return WRONG_REQUEST
    if not isinstance(error, CrawlyardError):
        raise error
    click.echo(f"crawlyard: {reason(error)}", err=True)
    return WRONG_REQUEST
