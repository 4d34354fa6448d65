"""Commands that use a trained model: predict, export, repeat."""

from pathlib import Path
from typing import Annotated

import typer

from gridyard.cli.common import Db, Json, OneJob, job_of, print_json
from jobs.errors import InputError, JobsFailed

app = typer.Typer()


@app.command()
def predict(
    job: OneJob,
    inputs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="INPUT",
            help="A CSV or Parquet file, - for CSV on stdin, or COLUMN=VALUE ...; pictures and folders; or a prompt.",
            show_default=False,
        ),
    ] = None,
    top: Annotated[int | None, typer.Option("--top", min=1, help="So many likeliest classes; default: all.")] = None,
    prompts: Annotated[Path | None, typer.Option("--prompts", help="A text file with a prompt per line.")] = None,
    max_length: Annotated[int | None, typer.Option(help="Tokens of a text, with its prompt.")] = None,
    temperature: Annotated[float | None, typer.Option(help="Of writing.")] = None,
    top_k: Annotated[int | None, typer.Option(help="Of writing.")] = None,
    top_p: Annotated[float | None, typer.Option(help="Of writing.")] = None,
    repetition_penalty: Annotated[float | None, typer.Option(help="Of writing.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of writing; default: 0.")] = None,
    as_json: Json = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="CSV on stdout, and nothing else.")] = False,
    db: Db = None,
) -> None:
    """What a job's best model makes of new rows, pictures or prompts.

    Options of writing default to those of the job.
    """
    from gridyard.cli import predictions

    if as_json and as_csv:
        raise InputError("--json and --csv are both given; keep one of them")
    given = {"max_length": max_length, "temperature": temperature, "top_k": top_k, "top_p": top_p}
    given |= {"repetition_penalty": repetition_penalty, "seed": seed}
    writing = {name: value for name, value in given.items() if value is not None}
    wanted = predictions.Wanted(inputs=inputs or [], prompts=prompts, top=top, writing=writing)
    form = "json" if as_json else "csv" if as_csv else "text"
    broken = predictions.show(job_of(job, db), wanted, form)
    if broken:
        raise JobsFailed(f"{broken} of the pictures could not be read")


@app.command()
def export(
    job: OneJob,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A new or empty folder.", show_default=False)],
    formats: Annotated[
        list[str] | None,
        typer.Option("--format", help="safetensors, onnx or torch; several times for several. Default: all."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace files in a folder that is not empty.")] = False,
    as_json: Json = False,
    db: Db = None,
) -> None:
    """Write a job's best model for use elsewhere: safetensors, ONNX, torch.export, and a card that explains it.

    ONNX and torch.export are compared with the model; a file that computes something else is not written.
    """
    from gridyard.cli import predictions

    found = job_of(job, db)
    done = found.export(folder, formats=formats, force=force)
    if as_json:
        print_json(done)
    else:
        typer.echo(predictions.exported(done))
    if done.failed:
        raise JobsFailed("; ".join(done.notes))


@app.command()
def repeat(
    job: OneJob,
    tolerance: Annotated[
        float | None,
        typer.Option(help="Relative, of the result; default: 0 on a CPU with the same versions, else 0.01."),
    ] = None,
    as_json: Json = False,
    db: Db = None,
) -> None:
    """Train a job again, here, and compare every number with what was recorded."""
    from gridyard.cli import predictions

    found = job_of(job, db).repeat(tolerance)
    if as_json:
        print_json(found)
    else:
        typer.echo(predictions.repeated(found))
    if not found.passed:
        raise typer.Exit(1)
