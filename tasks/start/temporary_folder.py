"""Whether a temporary folder can be written to: a worker keeps its children's locks and its liveness file there."""

import tempfile


def why_no_temporary_folder() -> str:
    """Return in one line that there is none, and the remedy; nothing if there is one."""
    try:
        tempfile.gettempdir()
    except FileNotFoundError as error:
        return f"{error.strerror}. Set TMPDIR to a folder that this user can write to."
    return ""
