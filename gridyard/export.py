"""A job's best model for use elsewhere: a folder with the model in several formats, and a card that explains it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from gridyard import bars, card
from jobs.errors import GridyardError, InputError, JobsFailed, did_you_mean
from jobs.store import replace

if TYPE_CHECKING:
    from torch import Tensor

    from gridyard.job import Job
    from jobs.export import Check, Program
    from jobs.problem import Model
    from jobs.spec import JobSpec

FILES = {"safetensors": "model.safetensors", "onnx": "model.onnx", "torch": "model.pt2"}
CARD = "README.md"
REAL_ROWS = 256  # of the test part that a file is checked on


@dataclass(kw_only=True)
class Exported:
    """What was written, and what was not."""

    job: int
    folder: str
    files: dict[str, int] = field(default_factory=dict)  # name -> bytes
    checks: dict[str, "Check"] = field(default_factory=dict)  # name -> how it compares with the model
    notes: list[str] = field(default_factory=list)  # what was left out, and why
    failed: bool = False  # a file that was asked for was left out, or one computed something else than the model


def export(job: "Job", folder: Path, *, formats: Sequence[str] | None = None, force: bool = False) -> Exported:
    """Write a job's best model and its card; each file appears whole, the card last.

    Args:
        formats: some of FILES; None: all that are possible.
        force: write into a folder that is not empty; files of the same names are replaced.

    Raises:
        InputError: there is no such format, the folder is not empty, or it is none.
        NotFound: the job has no model.
        JobsFailed: none of the formats is possible.
    """
    for name in formats or ():
        if name not in FILES:
            raise InputError(f"there is no format {name!r}{did_you_mean(name, FILES)} Formats: {', '.join(FILES)}")
    _refuse(folder, force)
    content, spec = job.content(), job.spec()  # without a model, nobody waits for torch
    done = Exported(job=job.id, folder=str(folder))
    wanted = formats or list(FILES)
    others = [name for name in wanted if name != "safetensors"]
    found = {FILES["safetensors"]: content} if "safetensors" in wanted else {}
    with bars.steps("exporting", 2 + len(others) if others else 1) as advance:
        from jobs import artifact

        model = artifact.load(content)
        found |= _converted(spec, model, others, done, advance)
    done.failed |= formats is not None and len(found) < len(set(wanted))
    if not found:
        raise JobsFailed(f"{'; '.join(done.notes)}; nothing was written")
    found[CARD] = card.text(job.details(), spec, model, done).encode()
    try:
        for name, written in found.items():
            replace(folder / name, written)
            done.files[name] = len(written)
    except OSError as error:
        raise InputError(f"{folder}: cannot be written: {error.strerror}") from None
    return done


def _refuse(folder: Path, force: bool) -> None:
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file; give a folder")
    if folder.is_dir() and any(folder.iterdir()) and not force:
        raise InputError(f"{folder} is not empty; give a new folder, or --force to replace files in it")


def _converted(
    spec: "JobSpec", model: "Model", wanted: Sequence[str], done: Exported, advance: bars.Advance
) -> dict[str, bytes]:
    """The files of other formats that compute what the model does; notes say which are left out."""
    from jobs import export

    names = " and ".join(FILES[name] for name in wanted)
    if not wanted:
        return {}
    if model.signature.kind == "text":
        done.notes.append(f"{names} left out: a language model writes in a loop, which these formats do not hold")
        return {}
    advance("taking its steps down")
    try:
        program = export.program(model)
    except Exception as error:  # of torch, by kind of operation
        done.notes.append(f"{names} left out: {_first_line(error)}")
        return {}
    advance("reading its test part")
    real = _real_rows(spec, done)
    made = {}
    for name in wanted:
        advance(FILES[name])
        if (content := _made(name, program, model, real, done)) is not None:
            made[FILES[name]] = content
    return made


def _made(name: str, program: "Program", model: "Model", real: "Tensor | None", done: Exported) -> bytes | None:
    """One file; None where it is not possible, or computes something else than the model."""
    from jobs import export

    make, read = export.FORMATS[name]
    try:
        content = make(program, model)
        checked = export.check(model, read(content), real)
    except Exception as error:  # of torch or onnxruntime, by kind of operation
        done.notes.append(f"{FILES[name]} left out: {_first_line(error)}")
        return None
    done.checks[FILES[name]] = checked
    if checked.passed:
        return content
    done.failed = True
    done.notes.append(f"{FILES[name]} left out: it computes something else than the model")
    return None


def _real_rows(spec: "JobSpec", done: Exported) -> "Tensor | None":
    """Raw rows of the job's test part, where its data are here."""
    from jobs import evaluation

    try:
        problem, _ = evaluation.rebuilt(spec)
    except GridyardError as error:
        done.notes.append(f"checked on random rows only: {_first_line(error)}")
        return None
    if problem.raw is None or not len(problem.test):
        return None
    return problem.raw(problem.test.rows[:REAL_ROWS])


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]
