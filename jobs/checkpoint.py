"""The `last` checkpoint: one safetensors file with all a job needs to go on as if nothing had happened.

Also in the middle of an epoch: it then holds how far the job is, and what the epoch has gathered until there.
"""

import hashlib
import json
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict

import torch
from torch import Tensor

from jobs import progress, tensorfile
from jobs.errors import CheckpointDamaged, StoreError
from jobs.params import follows_epochs
from jobs.row import Best, Row, State
from jobs.spec import EpochReport, Json
from jobs.store import Store

FORMAT = "gridyard checkpoint 4"
READ = (FORMAT, "gridyard checkpoint 3")  # 3: only between epochs, and after the first
SAVING = 10  # checkpoints that took a second are followed by ten of training, or large networks would mostly be written
logger = logging.getLogger(__name__)


class Writer:
    """Writes checkpoints beside the training, which goes on meanwhile; one behind at most."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._thread = ThreadPoolExecutor(1, "checkpoints")
        self._written: Future[None] | None = None
        self._seconds = 0.0  # how long the last ones took
        self._begun = time.monotonic()
        self._failing = False  # the last ones could not be written

    def due(self, seconds: float) -> bool:
        """Whether it is time again, at least so many seconds after the last ones; 0: always, and no other way."""
        if seconds == 0:
            return True
        idle = self._written is None or self._written.done()
        return idle and time.monotonic() - self._begun >= max(seconds, SAVING * self._seconds)

    def save(self, rows: Sequence[tuple[Row, State]], *, wait: bool) -> None:
        """Write `last` of these attempts, each whole or not at all.

        A store that fails is only warned of, once until it works again: the training goes on, the next attempt starts
        from an older checkpoint, and the result tells of it.

        Args:
            wait: until they are written.
        """
        if self._written is not None:
            self._written.result()
        self._begun = time.monotonic()
        files = [(row, row.epoch, pending(row, state)) for row, state in rows]
        self._written = self._thread.submit(self._write, files)
        if wait:
            self._written.result()

    def _write(self, files: Sequence[tuple[Row, int, Callable[[], bytes]]]) -> None:
        started = time.monotonic()
        for row, epoch, content in files:
            try:
                self._store.write(path(row.spec.job, row.assignment.attempt), content())
            except Exception as error:  # a checkpoint is a help: nothing ends for want of one
                row.unsaved = f"epoch {epoch}: {error}"
                if not self._failing:
                    told = "job %d, epoch %d: no checkpoint, training goes on without: %s"
                    logger.warning(told, row.spec.job, epoch, error)
                self._failing = True
                continue
            if self._failing:
                logger.warning("job %d, epoch %d: checkpoints are written again", row.spec.job, epoch)
            self._failing = False
        self._seconds = time.monotonic() - started

    def close(self) -> None:
        """Wait for what is being written."""
        self._thread.shutdown()


def path(job: int, attempt: int) -> str:
    return f"{job}/{attempt}/last.safetensors"


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
        if row.at is not None:
            logger.info("job %d goes on in epoch %d after batch %d", row.spec.job, row.epoch + 1, row.at[0])
        return


def dump(row: Row, state: State) -> bytes:
    """The checkpoint's bytes."""
    return pending(row, state)()


def pending(row: Row, state: State) -> Callable[[], bytes]:
    """What makes the checkpoint's bytes of how things are now, also when the row has gone on."""
    groups = {
        "net": {"weights": state.weights, **prefixed("buffers", state.buffers)},
        "optimizer": state.optimizer,
        "history": columns(row.history),
    }
    facts: Json = {
        "format": FORMAT,
        "key": row.spec.key,
        "identity": identity(row),
        "layout": row.built.layout.facts,
        "lr": row.lr.state(),
        "stopper": row.stopper.state(),
        "metrics": list(row.history[0].metrics) if row.history else [],  # in the order of a report
    }
    if row.best is not None:
        assert state.best_weights is not None
        groups["best"] = {"weights": state.best_weights, **prefixed("buffers", state.best_buffers)}
        facts["best"] = {"epoch": row.best.epoch, "metrics": row.best.metrics}
    if state.progress is not None:
        groups["epoch"], facts["epoch"] = progress.dumped(state.progress)
        facts["seconds"] = row.seconds
    tensors = {name: tensor for part, named in groups.items() for name, tensor in prefixed(part, named).items()}
    return lambda: tensorfile.pack(tensors, facts)


def restore(row: Row, content: bytes, name: str) -> None:
    """Put a fresh row where `dump` left another; a row is not touched unless all fits.

    Raises:
        CheckpointDamaged: not whole, of another job, or of a network of another shape.
    """
    tensors, facts = tensorfile.unpack(content, name)
    refuse_foreign(row, facts, name)
    device = row.built.device
    net, best, optimizer = (
        {key: tensor.to(device) for key, tensor in group(tensors, part).items()}
        for part in ("net", "best", "optimizer")
    )
    history = reports(row.spec.job, group(tensors, "history"), facts["metrics"])
    if len(history) > row.spec.epochs:
        raise CheckpointDamaged(f"{name} holds epoch {len(history)}, and the job trains {row.spec.epochs}")
    row.state = State(
        weights=net["weights"],
        buffers=group(net, "buffers"),
        optimizer=optimizer,
        best_weights=best.get("weights"),
        best_buffers=group(best, "buffers"),
        progress=progress.restored(group(tensors, "epoch"), facts["epoch"], device) if "epoch" in facts else None,
    )
    row.best = Best(**facts["best"]) if "best" in facts else None
    row.seconds = facts.get("seconds", 0.0)
    row.lr.restore(facts["lr"])
    row.stopper.restore(facts["stopper"])
    row.history = history


def worth(row: Row, state: State) -> bool:
    """Whether there is anything to keep: a batch, at least."""
    return bool(row.history) or (state.progress is not None and state.progress.at > (0, 0))


def columns(history: list[EpochReport]) -> dict[str, Tensor]:
    """A history by column, each (epochs,) float64: exact, and in a long job too much for the header's JSON."""
    if not history:
        return {}
    lists = {name: [report.metrics[name] for report in history] for name in history[0].metrics}
    lists["seconds"] = [report.seconds for report in history]
    return {name: torch.tensor(values, dtype=torch.float64) for name, values in lists.items()}


def reports(job: int, table: dict[str, Tensor], metrics: list[str]) -> list[EpochReport]:
    """The history whose `columns` these are."""
    if not table:
        return []
    rows = zip(*(table[name].tolist() for name in metrics), strict=True)
    return [
        EpochReport(job=job, epoch=epoch, metrics=dict(zip(metrics, values, strict=True)), seconds=seconds)
        for epoch, (values, seconds) in enumerate(zip(rows, table["seconds"].tolist(), strict=True), start=1)
    ]


def refuse_foreign(row: Row, facts: Json, name: str) -> None:
    if facts.get("format") not in READ:
        allowed = " and ".join(map(repr, READ))
        raise CheckpointDamaged(f"{name}: its format is {facts.get('format')!r}; this version reads {allowed}")
    if (facts["key"], facts["identity"]) != (row.spec.key, identity(row)):
        raise CheckpointDamaged(f"{name} belongs to job {facts['key']}, or to other parameters or data")
    if facts["layout"] != row.built.layout.facts:
        raise CheckpointDamaged(f"{name} holds a network of another shape")


def identity(row: Row) -> str:
    """Digest of all that a job's numbers follow from: its spec, without the row ids of this database, its data, its
    metrics: an epoch of a version that measured others is no part of this history. Nor is one of other code.

    Who may train more epochs than it could before goes on, unless its learning rates would have been others.
    """
    facts = {
        **asdict(row.spec),
        "job": None,
        "sweep": None,
        "epochs": row.spec.epochs if follows_epochs(row.spec.params) else None,
        "data": row.problem.fingerprint,
        "metrics": row.built.metrics,
    }
    facts["code"] = row.problem.code
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def group(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    start = f"{prefix}/"
    return {name.removeprefix(start): tensor for name, tensor in tensors.items() if name.startswith(start)}


def prefixed(prefix: str, named: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}/{name}": tensor for name, tensor in named.items()}
