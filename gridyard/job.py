"""One job, as the Python client shows it: its record, its model, and what can be done with it."""

import hashlib
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from db import results
from db.results import JobDetails
from gridyard.writing import check
from jobs.errors import StoreError
from jobs.spec import BestModel, JobSpec, Json

if TYPE_CHECKING:
    import pandas

    from gridyard.client import Yard
    from gridyard.export import Exported
    from gridyard.repeat import Repeated
    from gridyard.report.write import Written
    from jobs.problem import Model


class Job:
    """One cell with one seed."""

    def __init__(self, yard: "Yard", job: int) -> None:
        self.yard = yard
        self.id = job

    def __repr__(self) -> str:
        return f"<Job {self.id}>"

    def details(self) -> JobDetails:
        """Parameters, state, attempts, history, environment, error, artifacts."""
        with self.yard.database.reading() as session:
            return results.job_details(session, self.id)

    def history(self) -> "pandas.DataFrame":
        """One row per epoch."""
        import pandas

        return pandas.DataFrame(self.details().history)

    def load(self) -> "Model":
        """Its best model in eval mode: raw feature rows (a row per sample) to logits of its `classes`, or to values.

        Preprocessing is inside. Rows are a NumPy array or a tensor of any float type.

        Raises:
            NotFound: the job has not succeeded, or its model was freed.
            StoreError: the file is away, or is not the one that was recorded.
        """
        content = self.content()  # without a model, nobody waits for torch
        from jobs import artifact

        with self.yard.reading():
            return artifact.load(content)

    def predict(self, given: Any, *, top: int | None = None, **writing: Any) -> list[Json]:
        """What its best model makes of new inputs: a list of objects, as `gridyard predict --json` writes them.

        Args:
            given: a table as a file, a DataFrame, or a row or rows as {column: value}; picture files and folders; or
                a prompt, or several.
            top: so many likeliest classes; None: all.
            writing: of a language model: seed, temperature, top_k, top_p, repetition_penalty, max_length.

        Raises:
            InputError: the input does not fit the model; a picture that cannot be read only has an `error`.
            NotFound: the job has not succeeded, or its model was freed.
        """
        check(writing)
        model = self.on_device()
        from jobs import predict

        return list(predict.predict(model, given, top=top, writing=writing))

    def on_device(self) -> "Model":
        """As `load`, on the device of the settings."""
        model = self.load()
        from jobs import devices

        return model.to(devices.choose(self.yard.settings.device))

    def export(
        self, folder: str | PathLike[str], *, formats: Sequence[str] | None = None, force: bool = False
    ) -> "Exported":
        """Write its best model for use elsewhere; see `jobs.export.export`."""
        from gridyard import export

        with self.yard.reading():
            return export.export(self, Path(folder), formats=formats, force=force)

    def report(self, path: str | PathLike[str]) -> None:
        """Write a page (.html) that opens without network; errors as `write`."""
        self.write(report=path)

    def plot(self, path: str | PathLike[str]) -> None:
        """Write its main plots as one figure (.png, .svg or .pdf); errors as `write`."""
        self.write(plot=path)

    def write(self, *, report: str | PathLike[str] | None = None, plot: str | PathLike[str] | None = None) -> "Written":
        """Write a page, a figure, or both with one evaluation of the best model; its files, and what they lack.

        Raises:
            InputError: a path is none that can be written to, or the job has no epoch yet.
        """
        from gridyard.report import write

        with self.yard.reading():
            return write.of_job(self, report=report, plot=plot)

    def repeat(self, tolerance: float | None = None) -> "Repeated":
        """Train it again, here, and compare every number with what was recorded; see `gridyard.repeat.repeat`."""
        from gridyard import repeat

        with self.yard.reading():
            return repeat.repeat(self, tolerance)

    def spec(self) -> JobSpec:
        """What its trainer was given."""
        with self.yard.database.reading() as session:
            return results.job_spec(session, self.id)

    def content(self) -> bytes:
        """The safetensors file of its best model.

        Raises:
            NotFound: the job has not succeeded, or its model was freed.
            StoreError: the file is away, or is not the one that was recorded.
        """
        best = self._best()
        content = best.content
        if content is None:
            from jobs.store import Store

            assert best.path is not None  # the database holds one or the other
            try:
                content = Store(self.yard.settings.store_url).read(best.path)
            except StoreError:
                self._best()  # says so if it was freed since
                raise
        if hashlib.sha256(content).hexdigest() != best.sha256:
            raise StoreError(f"the best model of job {self.id} is not the file that was recorded; train it again")
        return content

    def _best(self) -> BestModel:
        with self.yard.database.reading() as session:
            return results.best_model(session, self.id)
