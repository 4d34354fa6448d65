"""Reports and plots as files: whole or not at all, at the user's place."""

from collections.abc import Callable
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from gridyard.report.compare import Comparison
from gridyard.report.curves import name_of
from gridyard.report.facts import value
from gridyard.report.look import Result, look
from jobs.errors import InputError

if TYPE_CHECKING:
    from gridyard.job import Job

PAGES = (".html", ".htm")
FIGURES = (".png", ".svg", ".pdf")
File = str | PathLike[str]


@dataclass(frozen=True, kw_only=True)
class Written:
    """What was written of a job."""

    files: list[Path]
    missing: tuple[str, ...]  # what a reader may look for in them in vain, and why


def of_job(job: "Job", *, report: File | None = None, plot: File | None = None) -> Written:
    """Write a job's page, its figure, or both.

    Raises:
        NotFound: there is no such job.
        InputError: a path is none that can be written to, or the job has done nothing yet.
    """
    places = _places(report, plot)
    result = look(job)
    files = _write(places, lambda: _page_of(result), lambda kind: _figure_of(result, kind))
    return Written(files=files, missing=result.missing)


def of_comparison(found: Comparison, *, report: File | None = None, plot: File | None = None) -> list[Path]:
    """Write the page of a comparison, its figure, or both; the files.

    Raises:
        InputError: a path is none that can be written to, or there is nothing to draw.
    """
    return _write(_places(report, plot), lambda: _page_of_several(found), lambda kind: _figure_of_several(found, kind))


def _places(report: File | None, plot: File | None) -> tuple[Path | None, Path | None]:
    page = None if report is None else place(report, "a report", PAGES)
    return page, None if plot is None else place(plot, "a plot", FIGURES)


def place(given: File, what: str, extensions: tuple[str, ...]) -> Path:
    """Where to write, checked before the long work begins.

    Raises:
        InputError: its extension is none of these, its folder is not there, or it is a folder.
    """
    path = Path(given).expanduser()
    if path.suffix.lower() not in extensions:
        allowed = " or ".join(extensions) if len(extensions) < 3 else ", ".join(extensions)
        raise InputError(f"{given}: {what} is written as {allowed}; give such a name, like job{extensions[0]}")
    if not path.parent.is_dir():
        raise InputError(f"{given}: there is no folder {path.parent}; make it, or give another place")
    if path.is_dir():
        raise InputError(f"{given}: is a folder; give the name of a file")
    return path


def _write(
    places: tuple[Path | None, Path | None], page: Callable[[], str], figure: Callable[[str], bytes]
) -> list[Path]:
    from jobs.store import replace

    report, plot = places
    contents: dict[Path, bytes] = {} if report is None else {report: page().encode(errors="replace")}
    if plot is not None:
        contents[plot] = figure(plot.suffix.lower().removeprefix("."))
    for path, content in contents.items():
        try:
            replace(path, content)
        except OSError as error:
            raise InputError(f"{path}: cannot be written: {error.strerror}") from None
    return list(contents)


def _page_of(result: Result) -> str:
    from gridyard.report import page

    return page.of_job(result)


def _figure_of(result: Result, kind: str) -> bytes:
    from gridyard.report import drawing, texts

    panels = [*result.learning, *result.testing, *result.pictures, *texts.panels(result.details)]
    if not panels:
        raise InputError(f"job {result.details.job} has neither curves nor texts, so there is nothing to draw")
    facts = [f"seed {result.details.seed}", *_score(result)]
    return drawing.as_file(panels, f"{result.title}, {', '.join(facts)}", kind)


def _score(result: Result) -> list[str]:
    details = result.details
    if details.score is None:
        return [details.state, f"epoch {details.epoch}"]
    name = details.metric.removeprefix("val_")
    test = details.metrics.get(f"test_{name}")
    of_test = [] if test is None else [f"on test data {value(test)}"]
    return [f"{name_of(name)} on validation data {value(details.score)}", *of_test]


def _page_of_several(found: Comparison) -> str:
    from gridyard.report import page

    return page.of_comparison(found)


def _figure_of_several(found: Comparison, kind: str) -> bytes:
    from gridyard.report import drawing

    panels = found.panels
    if not panels:
        raise InputError("these jobs have no curves to draw: none has two epochs or a measured one; --report has texts")
    return drawing.as_file(panels, f"Jobs {', '.join(str(one.job) for one in found.jobs)}", kind)
