"""The `last` checkpoint: one safetensors file with all a job needs to go on as if nothing had happened."""

import hashlib
import json
import logging
import time
from dataclasses import asdict

import torch
from torch import Tensor

from jobs import optimizers, tensorfile
from jobs.errors import CheckpointDamaged, StoreError
from jobs.row import Best, Row
from jobs.spec import EpochReport, Json
from jobs.store import Store

FORMAT = "gridyard checkpoint 2"
WARNING_SECONDS = 60.0  # between two warnings of a job whose checkpoints cannot be written
logger = logging.getLogger(__name__)


def path(job: int, attempt: int) -> str:
    return f"{job}/{attempt}/last.safetensors"


def save(row: Row, store: Store) -> None:
    """Write `last` of this attempt, whole or not at all.

    A store that fails is only warned of: the training goes on, and the next attempt starts from an older checkpoint.
    """
    started = time.monotonic()
    try:
        store.write(path(row.spec.job, row.assignment.attempt), dump(row))
    except StoreError as error:
        if time.monotonic() - row.warned_at >= WARNING_SECONDS:
            logger.warning("job %d, epoch %d: no checkpoint: %s", row.spec.job, row.epoch, error)
            row.warned_at = time.monotonic()
    row.saved_at = time.monotonic()
    row.saving_seconds = row.saved_at - started


def resume(row: Row, store: Store) -> None:
    """Take up the newest whole checkpoint of this or an earlier attempt; without one the row stays fresh."""
    for attempt in range(row.assignment.attempt, 0, -1):
        name = path(row.spec.job, attempt)
        try:
            if not store.exists(name):
                continue
            restore(row, store.read(name), name)
        except StoreError as error:  # away, or the file is damaged
            logger.warning("%s; an older checkpoint is looked for, else job %d starts afresh", error, row.spec.job)
            continue
        row.resumed_from = row.epoch
        return


def dump(row: Row) -> bytes:
    """The checkpoint's bytes."""
    assert row.best is not None  # an epoch that did not diverge has a best
    groups = {
        "net": row.net.state_dict(),
        "best": row.best.weights,
        "optimizer": optimizers.tensors(row.optimizer),
        "history": columns(row.history),
    }
    facts = {
        "format": FORMAT,
        "key": row.spec.key,
        "identity": identity(row),
        "best": {"epoch": row.best.epoch, "metrics": row.best.metrics},
        "lr": row.lr.state(),
        "stopper": row.stopper.state(),
        "metrics": list(row.history[0].metrics),  # in the order of a report
    }
    tensors = {f"{group}/{name}": tensor for group, named in groups.items() for name, tensor in named.items()}
    return tensorfile.pack(tensors, facts)


def restore(row: Row, content: bytes, name: str) -> None:
    """Put a fresh row where `dump` left another; a row is not touched unless all fits.

    Raises:
        CheckpointDamaged: not whole, of another job, or of a network of another shape.
    """
    tensors, facts = tensorfile.unpack(content, name)
    refuse_foreign(row, tensors, facts, name)
    row.net.load_state_dict(group(tensors, "net"))
    optimizers.restore(row.optimizer, group(tensors, "optimizer"))
    weights = {key: tensor.to(row.device) for key, tensor in group(tensors, "best").items()}
    row.best = Best(weights=weights, **facts["best"])
    row.lr.restore(facts["lr"])
    row.stopper.restore(facts["stopper"])
    row.history = reports(row.spec.job, group(tensors, "history"), facts["metrics"])


def columns(history: list[EpochReport]) -> dict[str, Tensor]:
    """A history by column, each (epochs,) float64: exact, and in a long job too much for the header's JSON."""
    lists = {name: [report.metrics[name] for report in history] for name in history[0].metrics}
    lists["seconds"] = [report.seconds for report in history]
    return {name: torch.tensor(values, dtype=torch.float64) for name, values in lists.items()}


def reports(job: int, table: dict[str, Tensor], metrics: list[str]) -> list[EpochReport]:
    """The history whose `columns` these are."""
    rows = zip(*(table[name].tolist() for name in metrics), strict=True)
    return [
        EpochReport(job=job, epoch=epoch, metrics=dict(zip(metrics, values, strict=True)), seconds=seconds)
        for epoch, (values, seconds) in enumerate(zip(rows, table["seconds"].tolist(), strict=True), start=1)
    ]


def refuse_foreign(row: Row, tensors: dict[str, Tensor], facts: Json, name: str) -> None:
    if facts.get("format") != FORMAT:
        raise CheckpointDamaged(f"{name}: its format is {facts.get('format')!r}; this version reads {FORMAT!r}")
    if (facts["key"], facts["identity"]) != (row.spec.key, identity(row)):
        raise CheckpointDamaged(f"{name} belongs to job {facts['key']}, or to other parameters or data")
    wanted = {key: tensor.shape for key, tensor in row.net.state_dict().items()}
    for part in ("net", "best"):
        if {key: tensor.shape for key, tensor in group(tensors, part).items()} != wanted:
            raise CheckpointDamaged(f"{name} holds a network of another shape")


def identity(row: Row) -> str:
    """Digest of all that a job's numbers follow from: its spec, without the row ids of this database, its data, its
    metrics: an epoch of a version that measured others is no part of this history. Nor is one of other code."""
    facts = {**asdict(row.spec), "job": None, "sweep": None, "data": row.problem.fingerprint, "metrics": row.metrics}
    facts["code"] = row.problem.code
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def group(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    start = f"{prefix}/"
    return {name.removeprefix(start): tensor for name, tensor in tensors.items() if name.startswith(start)}
