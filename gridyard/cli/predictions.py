"""What predict, export and repeat print, and how predict reads what was typed."""

import csv
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from gridyard import bars, writing
from gridyard.cli.common import counted, plain
from gridyard.tables import number, table
from jobs.errors import InputError
from jobs.plain import dumped, printable
from jobs.spec import Json

if TYPE_CHECKING:
    from gridyard.export import Exported
    from gridyard.job import Job
    from gridyard.repeat import Repeated
    from jobs.problem import Signature

STDIN = "-"
SHOWN = 3  # classes of a prediction that people read, if they do not say how many
Write = Callable[[Json], None]


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What was typed."""

    inputs: list[str]
    prompts: Path | None = None
    top: int | None = None
    writing: Json = field(default_factory=dict)


def show(job: "Job", wanted: Wanted, form: str) -> int:
    """Predict, and print each prediction as it comes.

    Args:
        form: "text", "json" or "csv".

    Returns:
        The number of pictures that could not be read; each was named on stderr.
    """
    writing.check(wanted.writing)
    with bars.steps("loading the model"):
        model, broken = job.on_device(), 0
        from jobs import predict  # imports torch, which a job without a model has no use for

    top = SHOWN if form == "text" and wanted.top is None else wanted.top
    with ExitStack() as stack:
        given = stack.enter_context(read(wanted, model.signature))
        found = predict.predict(model, given, top=top, note=complain, writing=wanted.writing)
        write = stack.enter_context(FORMS[form](model.classes))
        for one in watched(found, several=model.signature.kind == "text"):
            write(one)
            broken += "error" in one
            if "error" in one and form != "json":
                complain(one["error"])
    return broken


def watched(found: Iterator[Json], *, several: bool) -> Iterator[Json]:
    """Each prediction; while one is made a bar counts those before it.

    Where they are printed on the terminal they are what one sees: the bar is there until the first one comes, and no
    line of it stands between them.

    Args:
        several: each of them takes long, so there is a bar before each.
    """
    if not sys.stdout.isatty():
        with bars.steps("predicting") as advance:
            for one in found:
                yield one
                advance("")
        return
    while True:
        with bars.steps("predicting"):
            try:
                one = next(found)
            except StopIteration:
                return
        yield one
        if not several:
            yield from found
            return


def complain(line: str) -> None:
    typer.echo(printable(line), err=True)


@contextmanager
def read(wanted: Wanted, signature: "Signature") -> Iterator[Any]:
    """What was typed as `jobs.predict` takes it.

    Raises:
        InputError: nothing was given, or it is not what this model predicts from.
    """
    inputs = wanted.inputs
    if signature.kind == "text":
        if wanted.top is not None:
            raise InputError("--top: this model writes texts; it has no classes. --top-k chooses among tokens")
        yield prompts(wanted)
        return
    if wanted.prompts is not None:
        raise InputError(f"--prompts: this model predicts from {KINDS[signature.kind]}, not from texts")
    if not inputs:
        raise InputError(f"INPUT is missing; {_expected(signature)}")
    if signature.kind == "table" and inputs == [STDIN]:
        with tempfile.TemporaryDirectory(prefix="gridyard-") as folder:
            file = Path(folder) / "stdin"
            file.write_bytes(sys.stdin.buffer.read())
            yield file
    elif signature.kind == "table" and all("=" in word for word in inputs) and not Path(inputs[0]).exists():
        yield pairs(inputs)
    else:
        yield inputs


KINDS = {"table": "rows of a table", "image": "pictures"}


def _expected(signature: "Signature") -> str:
    from jobs.inputs import described, example

    if signature.kind == "image":
        return "give picture files, or folders of them"
    return f"give a CSV or Parquet file, - for CSV on stdin, or {example(signature)}; {described(signature)}"


def prompts(wanted: Wanted) -> list[str]:
    """Those of the command line, of stdin, or of a file with one per line."""
    if wanted.inputs and wanted.prompts is not None:
        raise InputError("a prompt and --prompts are both given; keep one of them")
    if wanted.prompts is not None:
        try:
            lines = wanted.prompts.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{wanted.prompts}: cannot be read as UTF-8 text: {error}") from None
        return [line for line in lines if line.strip()]
    if not wanted.inputs:
        raise InputError('a prompt is missing; give it in quotes, "" to begin with nothing, - for stdin, or --prompts')
    return [sys.stdin.read().removesuffix("\n") if text == STDIN else text for text in wanted.inputs]


def pairs(words: Sequence[str]) -> dict[str, str]:
    """COLUMN=VALUE as one row.

    Raises:
        InputError: a column is given twice.
    """
    found: dict[str, str] = {}
    for word in words:
        name, _, value = word.partition("=")
        if name in found:
            raise InputError(f"{word}: {name} is given twice; keep one of them")
        found[name] = value
    return found


@contextmanager
def _as_json(classes: Sequence[str]) -> Iterator[Write]:
    """A list that is whole whatever happens: what was predicted before an error stays readable."""
    separator = "["

    def write(one: Json) -> None:
        nonlocal separator
        typer.echo(separator + dumped(plain(one)), nl=False)
        separator = ",\n"

    try:
        yield write
    finally:
        typer.echo("[]" if separator == "[" else "]")


@contextmanager
def _as_csv(classes: Sequence[str]) -> Iterator[Write]:
    """A column for each class's probability; a header first."""
    names = [f"probability_{name}" for name in classes]
    writer: Any = None

    def write(one: Json) -> None:
        nonlocal writer
        if "error" in one:
            return
        if writer is None:
            head = [name for name in one if name != "probabilities"]
            writer = csv.DictWriter(sys.stdout, [*head, *names], lineterminator="\n")
            writer.writeheader()
        parts = {f"probability_{name}": part for name, part in one.get("probabilities", {}).items()}
        writer.writerow({name: value for name, value in one.items() if name != "probabilities"} | parts)

    yield write


@contextmanager
def _as_text(classes: Sequence[str]) -> Iterator[Write]:
    """A line for each prediction; a text as it is."""
    width = max(map(len, classes), default=0)
    several = False

    def write(one: Json) -> None:
        nonlocal several
        if "text" in one:
            written = printable(one["text"])
            typer.echo(f"{'-' * 20}\n{written}" if several else written)
            several = True
        elif "class" in one:
            (_, best), *others = one["probabilities"].items()
            rest = ", ".join(f"{name} {_percent(part)}" for name, part in others)
            line = (
                f"{_named(one['input'])}  {one['class']:<{width}}  {_percent(best):>7}  {f'({rest})' if rest else ''}"
            )
            typer.echo(printable(line.rstrip()))
        elif "value" in one:
            typer.echo(f"{_named(one['input'])}  {_value(one['value'])}")

    yield write


def _named(name: str | int) -> str:
    return f"row {name:<6}" if isinstance(name, int) else name


def _percent(part: float) -> str:
    return f"{100 * part:.2f} %"


def _value(value: Any) -> str:
    return ", ".join(map(_value, value)) if isinstance(value, list) else f"{value:.6g}"


FORMS = {"text": _as_text, "json": _as_json, "csv": _as_csv}


def exported(done: "Exported") -> str:
    """Each file with its size and how it compares."""
    rows = []
    for name, size in done.files.items():
        rows.append([name, f"{size:,}", _compared(done.checks[name]) if name in done.checks else ""])
    text = f"job {done.job} in {done.folder}\n{table(['file', 'bytes', 'compared with the model'], rows)}"
    notes = [f"{name}: {_compared(one)}" for name, one in done.checks.items() if name not in done.files]
    return "\n".join([text, *notes, *([] if done.failed else done.notes)])  # of a failure, the error says them


def _compared(check: Any) -> str:
    from jobs.export import TOLERANCE

    told = f"largest difference {check.relative:.2g} of the largest prediction (allowed {TOLERANCE:g}), "
    return f"{told}{check.absolute:.2g} absolute, on {counted(check.rows, 'row')}, {check.real} of the test part"


def repeated(found: "Repeated") -> str:
    """Equal, or what differs first, by how much, and what may be the cause."""
    head = f"job {found.job}: trained again, {counted(found.epochs, 'epoch')} in {number(found.seconds)} s"
    damaged = (
        "" if found.history_whole else "\nthe recorded history is damaged: only its epochs that are left were compared"
    )
    if found.equal:
        equal = "equal bit for bit: every number of every epoch, the result and the weights of the best model"
        return f"{head}\n{equal}{damaged}"
    verdict = f"the result is within {found.tolerance:g} of the record" if found.passed else "differs from the record"
    lines = [head, verdict if found.tolerance else f"{verdict}; allowed was no difference"]
    if found.first is not None:
        one = found.first
        lines.append(f"first: epoch {one.epoch}, {one.metric}: {_both(one)}")
    lines += [f"result: {one.metric}: {_both(one)}" for one in found.result]
    off = "unknown: the recorded model is away or of another shape" if found.weights_off is None else found.weights_off
    lines.append(f"weights of the best model: {'equal' if found.weights else f'largest difference {number(off)}'}")
    lines += [] if found.texts else ["the texts differ"]
    lines += [f"changed: {one.name}: {one.recorded} then, {one.repeated} now" for one in found.environment]
    return (
        "\n".join(lines if found.environment else [*lines, "nothing of the recorded environment has changed"]) + damaged
    )


def _both(one: Any) -> str:
    if one.recorded is None or one.repeated is None:
        before, now = ("none" if value is None else value for value in (one.recorded, one.repeated))
        return f"{before} then, {now} now"
    return f"{one.recorded} then, {one.repeated} now (difference {one.absolute:.3g}, relative {one.relative:.3g})"
