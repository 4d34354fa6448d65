"""The README and the JSON shapes say what the code does."""

import dataclasses
import re
from pathlib import Path

import pytest

from db.leaderboard import Ranked, RankedCell
from db.results import Artifact, AttemptDetails, JobDetails
from db.retention import Models
from db.status import SweepStatus
from gridyard import cli, parameters
from gridyard.checks.finding import Finding
from gridyard.cleaning import Cleaned, Freeable
from gridyard.doctor import Diagnosis
from gridyard.export import Exported
from gridyard.repeat import Changed, Difference, Repeated
from gridyard.usage import Disk
from jobs import catalogue
from jobs.settings import PREFIX, Settings

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
SHAPES = (ROOT / "docs" / "json.md").read_text()


def setting_row(name: str) -> str:
    field = Settings.model_fields[name]
    default = "a cache folder of the user" if name in ("data", "cache") else str(field.default) or "empty"
    return f"| `{PREFIX}{name.upper()}` | {default} | {field.description} |"


@pytest.mark.parametrize("name", Settings.model_fields)
def test_the_readme_has_every_setting_with_its_default_and_meaning(name: str) -> None:
    assert setting_row(name) in README


@pytest.mark.parametrize("group", [cli.work, cli.read, cli.control, cli.admin])
def test_the_readme_has_every_command(group: object) -> None:
    commands = group.app.registered_commands  # type: ignore[attr-defined]
    for command in commands:
        assert f"`gridyard {command.callback.__name__}" in README
    assert "`gridyard db upgrade`" in README


@pytest.mark.parametrize(
    "shape",
    [
        *(SweepStatus, Ranked, RankedCell, JobDetails, AttemptDetails, Artifact),
        *(Exported, Repeated, Difference, Changed),
        *(Models, Disk, Cleaned, Freeable, Diagnosis, Finding),
    ],
)
def test_the_json_shapes_have_every_key(shape: type) -> None:
    for field in dataclasses.fields(shape):
        assert f"`{field.name}`" in SHAPES


def test_the_json_shape_of_a_task_has_every_key() -> None:
    described = parameters.describe(catalogue.find("iris"))
    for key in [*described, *described["parameters"][0]]:
        assert f"`{key}`" in SHAPES


@pytest.mark.parametrize(
    "page", ["README.md", "CHANGELOG.md", *(f"docs/{path.name}" for path in ROOT.glob("docs/*.md"))]
)
def test_every_link_to_a_file_leads_somewhere(page: str) -> None:
    text = (ROOT / page).read_text()
    for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
        assert (ROOT / page).parent.joinpath(link).exists(), link
