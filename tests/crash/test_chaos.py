"""A seeded hand disturbs two sweeps, on both kinds of yard: the short run of `python -m tests.chaos`.

Another hand: `CHAOS_SEED=… make test`; `make chaos` draws one. What the hand does follows from the seed; when it meets
whom, not.
"""

import os
from pathlib import Path

import pytest

from tests.chaos import report
from tests.chaos.faults import Pace
from tests.chaos.run import Order, Outcome, disturbed, undisturbed
from tests.chaos.scene import Times
from tests.chaos.sweeps import Size

SEED = int(os.environ.get("CHAOS_SEED", 5))
WORKERS = 3
SIZE = Size(alone=1, packed=1, epochs=300)
TIMES = Times(lease=3.0)
PACE = Pace(pause=0.9, lease=TIMES.lease, broker_away=3.0, database_away=5.0, bells=3.0, patience=8.0)
FAULTS = {"servers": 20, "embedded": 14}

pytestmark = pytest.mark.timeout(900)  # a machine that is busy with other work starts processes slowly


@pytest.fixture(scope="module")
def wanted(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """What the sweeps come to when nothing disturbs them."""
    return undisturbed(tmp_path_factory.mktemp("undisturbed"), SIZE, TIMES, WORKERS, _quiet)


def _quiet(what: str, done: int, total: int) -> None:
    """No bar in a test."""


@pytest.mark.parametrize("yard", FAULTS)
def test_a_disturbed_sweep_comes_to_the_same_with_one_result_for_each_job(
    yard: str, wanted: Outcome, tmp_path: Path
) -> None:
    servers = yard == "servers"
    order = Order(seed=SEED, faults=FAULTS[yard], size=SIZE, pace=PACE, times=TIMES, workers=WORKERS, servers=servers)
    verdict = disturbed(tmp_path, order, wanted, _quiet)
    print("\n".join([*report.lines(order, verdict), *verdict.stories]))
    complaints = [f"job {one.job}: {one.text}" if one.job else one.text for one in verdict.complaints]
    assert complaints == [], "\n".join([f"seed {SEED}", *complaints])
