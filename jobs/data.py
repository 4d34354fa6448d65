"""Data sets on this machine: loaded from their home once, then kept in the data folder in a form that loads at once."""

import logging
import os
from importlib.metadata import version
from pathlib import Path
from typing import Any

from jobs import settings, tensorfile
from jobs.errors import CheckpointDamaged, StoreError
from jobs.store import Store
from jobs.tabular import Table

logger = logging.getLogger(__name__)


def folder() -> Path:
    """Where data sets lie: GRIDYARD_DATA, else a cache folder of the user."""
    return Path(os.environ.get(f"{settings.PREFIX}DATA") or settings.default_data_folder())


def bundled(name: str) -> Table:
    """A classification table that comes with scikit-learn: "iris", "breast_cancer", "digits".

    Importing scikit-learn takes a trainer 3 s of CPU time, reading the kept table 2 ms.
    """
    # Versions that share the folder must not write each other's files anew, in turn.
    store, path = Store(str(folder())), f"{name}-{version('scikit-learn')}-{tensorfile.FORMAT}.safetensors"
    try:
        return _read(store, path)
    except StoreError as error:  # not there, or not whole
        logger.info("%s", error)
    table = _from_scikit_learn(name)
    try:
        store.write(path, table.as_file())
    except StoreError as error:  # the next trainer loads it from its home again
        logger.warning("%s", error)
    return table


def _read(store: Store, path: str) -> Table:
    content = store.read(path)
    try:
        return Table.from_file(content, path)
    except (CheckpointDamaged, KeyError, TypeError) as error:
        raise StoreError(f"{error}; it is made again") from error


def _from_scikit_learn(name: str) -> Table:
    from sklearn import datasets

    bunch: Any = getattr(datasets, f"load_{name}")()
    return Table(
        rows=bunch.data,
        labels=bunch.target,
        features=tuple(map(str, bunch.feature_names)),
        classes=tuple(map(str, bunch.target_names)),
    )
