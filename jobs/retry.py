"""When a failed job is tried again."""

import random

FIRST_DELAY = 5.0  # seconds before the second retry; each further one waits twice as long
LONGEST_DELAY = 300.0  # seconds

# A worker that dies takes along all that it holds, so its death alone tells nothing of one job. With so many a job is a
# suspect: only a worker that holds nothing else takes it, and takes nothing else meanwhile. So no other job is there
# when the worker dies that makes them too many.
SUSPECT = 2  # lost workers
MOST_LOST = 3  # lost workers, by default


def delay_seconds(failures: int) -> float:
    """Seconds before the next attempt of a job that has failed so often.

    The first retry comes at once: most first failures are a killed process. Later ones are spread by up to a
    quarter, so that jobs that failed together do not come back together.
    """
    if failures <= 1:
        return 0.0
    delay = min(FIRST_DELAY * 2.0 ** (failures - 2), LONGEST_DELAY)
    return delay * random.uniform(1.0, 1.25)
