"""The files of the containers say what they should; `make compose-test` runs them."""

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from jobs.settings import PREFIX, Settings

ROOT = Path(__file__).parents[2]
FILES = ("docker-compose.yml", "deploy/workers.yml")


def services(file: str) -> dict[str, Any]:
    found: dict[str, Any] = YAML(typ="safe").load(ROOT / file)["services"]
    return found


SERVICES = [(file, name, service) for file in FILES for name, service in services(file).items()]


@pytest.mark.parametrize(("file", "name", "service"), SERVICES, ids=[f"{file}:{name}" for file, name, _ in SERVICES])
def test_every_service_is_closed(file: str, name: str, service: dict[str, Any]) -> None:
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in service
    assert "cap_add" not in service or name == "postgres"
    assert all(port.startswith("${BIND:-127.0.0.1}:") for port in service.get("ports", []))


@pytest.mark.parametrize(("file", "name", "service"), SERVICES, ids=[f"{file}:{name}" for file, name, _ in SERVICES])
def test_every_service_that_stays_has_a_health_check_and_starts_again(
    file: str, name: str, service: dict[str, Any]
) -> None:
    once = name in ("migrate", "gridyard")
    assert service["restart"] == ("no" if once else "unless-stopped")
    assert ("healthcheck" in service) is not once


@pytest.mark.parametrize("file", [*FILES, "Dockerfile"])
def test_every_setting_is_one(file: str) -> None:
    settings = {PREFIX + name.upper() for name in Settings.model_fields}
    assert set(re.findall(rf"\b{PREFIX}\w+", (ROOT / file).read_text())) <= settings


@pytest.mark.parametrize(
    ("file", "name", "service"),
    [one for one in SERVICES if one[2]["image"] == "gridyard"],
    ids=[f"{file}:{name}" for file, name, service in SERVICES if service["image"] == "gridyard"],
)
def test_every_folder_that_is_written_to_lies_on_a_volume(file: str, name: str, service: dict[str, Any]) -> None:
    folders = {one for one, field in Settings.model_fields.items() if str(field.description).startswith("folder ")}
    assert {"home", "spool", "store"} <= folders
    places = dict(re.findall(rf"\b{PREFIX}(\w+)=(/\S+)", (ROOT / "Dockerfile").read_text()))
    made = re.findall(r"(?<= )/\w+", re.findall(r"install -d .*", (ROOT / "Dockerfile").read_text())[0])
    volumes = [volume.replace(":-", "").split(":")[1] for volume in service["volumes"]]
    for folder in folders - {"home"}:  # the database and the broker are servers: `home` gets nothing that must stay
        assert places[folder.upper()] in volumes, folder
        assert places[folder.upper()] in made, "a volume belongs to whom the image's folder belongs"
    assert places["HOME"].startswith("/tmp/")
    assert service["tmpfs"] == ["/tmp"]
    assert service["environment"][f"{PREFIX}FILES"] == "${FILES:-}"


def test_every_variable_is_in_the_example() -> None:
    used = set(re.findall(r"(?<!\$)\$\{(\w+)", (ROOT / "docker-compose.yml").read_text()))
    explained = set(re.findall(r"^#?([A-Z_]+)=", (ROOT / ".env.example").read_text(), re.MULTILINE))
    assert used == explained


def test_passwords_have_no_default_and_each_is_asked_for() -> None:
    text = (ROOT / "docker-compose.yml").read_text()
    uses = re.findall(r"\$\{(\w+_PASSWORD)([^}]*)\}", text)
    assert {name for name, _ in uses} == {"POSTGRES_PASSWORD", "REDIS_PASSWORD", "GRAFANA_PASSWORD"}
    assert all(rest.startswith(":?") for _, rest in uses)


def test_an_env_of_make_has_a_password_of_its_own_for_each_and_only_the_owner_reads_it(tmp_path: Path) -> None:
    (tmp_path / ".env.example").write_text((ROOT / ".env.example").read_text())
    subprocess.run(["make", "-f", str(ROOT / "Makefile"), ".env"], cwd=tmp_path, check=True, capture_output=True)
    passwords = re.findall(r"^\w+_PASSWORD=([0-9a-f]{48})$", (tmp_path / ".env").read_text(), re.MULTILINE)
    assert len(set(passwords)) == 3
    assert os.stat(tmp_path / ".env").st_mode & 0o077 == 0


def test_only_what_is_named_comes_into_the_image() -> None:
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert lines[0] == "*"
    allowed = {line[1:] for line in lines if line.startswith("!")}
    assert all((ROOT / path).exists() for path in allowed)
    assert not {path for path in allowed if path.startswith((".", "deploy", "tests"))}


def test_dependencies_are_a_layer_before_the_code() -> None:
    text = (ROOT / "Dockerfile").read_text()
    assert text.index("-r requirements.lock") < text.index("COPY . .") < text.index("USER yard")
