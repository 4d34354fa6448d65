"""Tables that come with scikit-learn, kept in the cache folder in a form that loads at once."""

import logging
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from jobs.data.places import cache_folder
from jobs.errors import CheckpointDamaged, StoreError

if TYPE_CHECKING:  # they import torch
    from jobs.store import Store
    from jobs.tabular import Table

logger = logging.getLogger(__name__)


def bundled(name: str) -> "Table":
    """A classification table that comes with scikit-learn: "iris", "breast_cancer", "digits".

    Importing scikit-learn takes a trainer 3 s of CPU time, reading the kept table 2 ms.
    """
    from jobs import tensorfile
    from jobs.store import Store

    # Versions that share the folder must not write each other's files anew, in turn.
    store, path = Store(str(cache_folder())), f"{name}-{version('scikit-learn')}-{tensorfile.FORMAT}.safetensors"
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


def _read(store: "Store", path: str) -> "Table":
    from jobs.tabular import Table

    content = store.read(path)
    try:
        return Table.from_file(content, path)
    except (CheckpointDamaged, KeyError, TypeError) as error:
        raise StoreError(f"{error}; it is made again") from error


def _from_scikit_learn(name: str) -> "Table":
    from sklearn import datasets

    from jobs.tabular import Table

    bunch: Any = getattr(datasets, f"load_{name}")()
    return Table(
        rows=bunch.data,
        labels=bunch.target,
        features=tuple(map(str, bunch.feature_names)),
        classes=tuple(map(str, bunch.target_names)),
    )
