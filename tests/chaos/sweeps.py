"""What is trained while a hand disturbs it, and what it came to."""

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import gridyard
from tests.chaos.audit import Records

# Each draws on all that an interrupted job must carry over: a schedule with warm-up, dropout, running means of batch
# norm, early stopping. Enough retries that no job is given up for being hit often.
COMMON: dict[str, Any] = {
    "task": "iris",
    "fixed": {"batch_norm": True, "scheduler": {"name": "cosine"}, "warmup_epochs": 5, "batch_size": 16},
    "objective": {"metric": "val_loss", "mode": "min"},
    "early_stopping": {"monitor": "val_loss", "patience": 80},
    "retries": 1000,
    "keep": {"best": "all"},  # every model is compared
}
RATES = [0.001, 0.002, 0.003, 0.005, 0.007, 0.01, 0.015, 0.02, 0.03, 0.05]
ALONE = {"name": "chaos, each alone", "pack": "off", **COMMON}
PACKED = {"name": "chaos, in packs", "pack": 8, **COMMON}
PARTS = 3


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much is trained."""

    alone: int  # seeds of ALONE: so many times 10 jobs
    packed: int  # seeds of PACKED: so many times 20 jobs
    epochs: int

    def specs(self) -> list[dict[str, Any]]:
        """Sweeps in turns, so that the hand meets both kinds all the time."""
        hidden = [[16, 8], [24, 12]]
        return [
            {**spec, "name": f"{spec['name']} {part}", "seeds": seeds, "epochs": self.epochs}
            for part in range(PARTS)
            for spec, seeds in (
                ({**ALONE, "grid": {"lr": RATES, "dropout": [0.2]}}, _seeds(self.alone, part)),
                ({**PACKED, "grid": {"lr": RATES, "dropout": [0.1], "hidden": hidden}}, _seeds(self.packed, part)),
            )
            if seeds
        ]


def _seeds(count: int, part: int) -> list[int]:
    return list(range(part, count, PARTS))


def submit(spec: Mapping[str, Any], folder: Path, environment: Mapping[str, str]) -> int | None:
    """`gridyard submit`: the sweep's id; None where the database was away."""
    file = folder / f"{spec['name']}.json"
    file.write_text(json.dumps(spec), encoding="utf-8")
    told = gridyard_command("submit", str(file), "--json", environment=environment)
    if told.returncode != 0:
        assert told.returncode == 1, f"gridyard submit: exit code {told.returncode}\n{told.stderr}"
        assert "Traceback" not in told.stderr, told.stderr
        return None
    return int(json.loads(told.stdout)["sweep"])


def gridyard_command(*arguments: str, environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """What a `gridyard` command came to."""
    command = [sys.executable, "-P", "-m", "gridyard", *arguments]
    return subprocess.run(command, env=dict(environment), capture_output=True, text=True, timeout=300)


@dataclass(frozen=True, kw_only=True)
class Came:
    """All that a job came to: nothing of it depends on time or place."""

    state: str
    score: float | None
    metrics: dict[str, float | None]
    best_epoch: int | None
    epochs: int | None
    model: str | None  # sha256 of its best weights
    history: list[dict[str, Any]]  # without seconds

    def differences(self, other: "Came") -> list[str]:
        """Names of what differs, with both values."""
        mine, theirs = asdict(self), asdict(other)
        found = [name for name in mine if mine[name] != theirs[name]]
        return [name if name == "history" else f"{name} {mine[name]} instead of {theirs[name]}" for name in found]


Cell = tuple[str, int, int]  # sweep's name, cell, seed


def outcomes(url: str, records: Records, sweep: int) -> dict[Cell, tuple[int, Came]]:
    """Of each cell and seed its job, and what that came to, read as a user of the Python client reads it."""
    models = {row["job_id"]: row["sha256"] for row in records.rows("SELECT job_id, sha256 FROM models")}
    jobs = records.rows("SELECT j.id, s.name FROM jobs j JOIN sweeps s ON s.id = j.sweep_id WHERE s.id = :s", s=sweep)
    yard, found = gridyard.connect(db=url), {}
    try:
        for row in jobs:
            details = yard.job(row["id"]).details()
            epochs = [{name: value for name, value in epoch.items() if name != "seconds"} for epoch in details.history]
            came = Came(
                state=details.state,
                score=details.score,
                metrics=details.metrics,
                best_epoch=details.best_epoch,
                epochs=details.epochs,
                model=models.get(row["id"]),
                history=epochs,
            )
            cell = (row["name"], details.cell, details.seed)
            assert cell not in found, f"two jobs of sweep {sweep} are the same cell and seed: {cell}"
            found[cell] = (row["id"], came)
    finally:
        yard.database.close()
    return found
