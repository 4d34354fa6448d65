"""Whether the worker of a container lives: `python -P -m workers.health` exits 0, or says why not and exits 1.

It imports nothing but a part of the standard library: a container asks it every few seconds.
"""

import os
import sys
import time

# A heartbeat may wait for a database that went in its middle for as long as a statement may take (60 s) and a
# connection that is refused late: only one that is later still has stuck.
SILENT_SECONDS = 120.0


def touch(file: str) -> None:
    """The heartbeat goes round, whether or not the database answers.

    Raises:
        OSError: the file cannot be written.
    """
    with open(file, "a"):
        os.utime(file)


def trouble(file: str) -> str | None:
    """Why the worker that touches this file is not well; None: it is."""
    if not file:
        return "GRIDYARD_HEALTH_FILE is not set, for the worker as for this command"
    try:
        silent = time.time() - os.stat(file).st_mtime
    except OSError as error:
        return f"no worker has touched {file}: {error.strerror}"
    return f"no heartbeat for {silent:.0f} s" if silent > SILENT_SECONDS else None


if __name__ == "__main__":
    sys.exit(trouble(os.environ.get("GRIDYARD_HEALTH_FILE", "")))
