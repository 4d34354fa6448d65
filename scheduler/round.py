"""What the scheduler does again and again, as facts."""

from dataclasses import dataclass

# What comes after a round's first transaction, step by step -> what does not happen while it fails.
STEPS = {
    "removal": "nothing is removed",
    "extension": "nothing is extended",
    "retention": "files that are of no more use stay for now",
    "bells": "no bell is rung",
}


@dataclass(frozen=True, kw_only=True)
class Round:
    """What one round of the loop did."""

    due: int  # waiting jobs that became ready
    rescued: int  # jobs taken back from silent workers
    closed: int  # sweeps that have ended
    removed: int  # sweeps of dead submitters and dead deleters
    rung: int  # bells
    extended: int = 0  # extensions of dead extenders that went on
