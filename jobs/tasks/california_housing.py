"""California housing (Pace and Barry 1997): the median value of a house in a district, in 100,000 USD."""

from functools import cache

from jobs import mixed, tabular
from jobs.catalogue.tables import CaliforniaHousingParams
from jobs.mixed import Mixed
from jobs.problem import Problem
from jobs.splits import split

FEATURES = ("MedInc", "HouseAge", "AveRooms", "AveBedrms", "Population", "AveOccup", "Latitude", "Longitude")

model = tabular.regressor


@cache
def districts() -> Mixed:
    """20,640 rows of 1990; values of 5 and more were cut off."""
    return mixed.of_set(
        "california_housing", "california_housing.csv", target="MedHouseVal", unit="100,000 USD", inputs=FEATURES
    )[0]


def build(params: CaliforniaHousingParams, seed: int) -> Problem:
    parts = split(len(districts().labels), params, seed)
    table = districts().table(parts[0])
    return tabular.regression(table, model(params, table.signature), params, seed, parts=parts)
