"""Values of a leaderboard's filter that no job can have."""

from typing import Any

import pytest

from jobs import catalogue
from jobs.errors import InputError
from scheduler import conditions

IRIS = [catalogue.find("iris")]


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ({"lr": "abc"}, 'where lr: was given "abc" (text); allowed is a number, above 0 and at most 100'),
        ({"lr": 0.1, "optimizer": "adm"}, 'where optimizer: was given "adm"; did you mean "adam"? Allowed: sgd, adam'),
        ({"scheduler.name": "stp"}, 'did you mean "step"? Allowed: step, cosine, plateau, one_cycle'),
        ({"scheduler.gamma": 2}, "where scheduler.gamma: was given 2; allowed is a number, above 0 and at most 1"),
        ({"hidden": [16, "8"]}, "where hidden: was given"),
        ({"batch_size": None}, "where batch_size: was given null; allowed is a whole number"),
    ],
    ids=str,
)
def test_a_value_that_breaks_its_rule_is_refused_with_the_rule(where: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as refused:
        conditions.check(where, IRIS)
    assert message in str(refused.value)


@pytest.mark.parametrize(
    "where",
    [
        {"lr": 1},
        {"hidden": [7]},
        {"scheduler": None},
        {"scheduler.name": "cosine"},
        {"scheduler.patience": 3},
        {"scheduler.min_lr": 0},
        {"split_seed": 4},
    ],
    ids=str,
)
def test_a_value_that_some_job_can_have_is_allowed(where: dict[str, Any]) -> None:
    conditions.check(where, IRIS)


def test_a_value_is_allowed_when_one_of_the_tasks_allows_it() -> None:
    conditions.check({"degree": 3, "loss": "l1"}, catalogue.tasks().values())
    with pytest.raises(InputError, match="where degree: was given 10; allowed is a whole number from 1 to 9"):
        conditions.check({"degree": 10}, catalogue.tasks().values())
