"""From what the home of a table gives to the file that is read here."""

import shutil
import tarfile
from pathlib import Path

CALIFORNIA = "MedInc,HouseAge,AveRooms,AveBedrms,Population,AveOccup,Latitude,Longitude,MedHouseVal"


def as_it_is(raw: Path, target: Path) -> None:
    """Every file as its home gives it."""
    shutil.copytree(raw, target, dirs_exist_ok=True)


def california_housing(raw: Path, target: Path) -> None:
    """A CSV with the columns of scikit-learn's `fetch_california_housing`, in full precision.

    Source of the formulas: sklearn/datasets/_california_housing.py.
    """
    with tarfile.open(raw / "cal_housing.tgz") as archive:
        member = archive.extractfile("CaliforniaHousing/cal_housing.data")
        if member is None:
            raise ValueError("CaliforniaHousing/cal_housing.data is no file")
        lines = member.read().decode("ascii").split()
    rows = [_district(*map(float, line.split(","))) for line in lines]
    text = "".join(",".join(map(repr, row)) + "\n" for row in rows)
    (target / "california_housing.csv").write_text(f"{CALIFORNIA}\n{text}", encoding="ascii", newline="\n")


def _district(
    longitude: float,
    latitude: float,
    age: float,
    rooms: float,
    bedrooms: float,
    population: float,
    households: float,
    income: float,
    value_usd: float,
) -> tuple[float, ...]:
    averages = rooms / households, bedrooms / households, population, population / households
    return income, age, *averages, latitude, longitude, value_usd / 100_000
