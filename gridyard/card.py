"""The model card of an exported model: what it is, how good, on what data, how to use it. Markdown."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from db.results import JobDetails
from gridyard.tables import parameter
from jobs import catalogue
from jobs.data.sets import SETS
from jobs.spec import JobSpec

if TYPE_CHECKING:
    from gridyard.export import Exported
    from jobs.problem import Model

WITH_GRIDYARD = """\
from pathlib import Path

from jobs import artifact, predict

model = artifact.load(Path("model.safetensors").read_bytes())
for one in predict.predict(model, {given}):
    print(one)"""
WITH_ONNX = """\
import numpy as np
import onnxruntime

session = onnxruntime.InferenceSession("model.onnx")
rows = np.zeros((1, {shape}), np.{type})
(predictions,) = session.run(None, {{"rows": rows}})"""
WITH_TORCH = """\
import torch

model = torch.export.load("model.pt2").module()
predictions = model(torch.zeros(1, {shape}, dtype=torch.{type}))"""
ELSEWHERE = ("data", "rows", "notes", "parameters", "checkpoint_missed")  # told in another part, or of no use here
GIVEN = {"table": '"rows.csv"', "image": '["picture.png"]', "text": '"Once upon a time"'}


def text(details: JobDetails, spec: JobSpec, model: "Model", exported: "Exported") -> str:
    """The whole card."""
    from jobs import preprocessing

    known = catalogue.find(details.task)
    blocks = [
        [f"# {details.task}, job {details.job}", "", f"A model of task `{details.task}`: {known.summary}."],
        ["## Metrics", "", *_metrics(details)],
        ["## Input", "", *preprocessing.inputs(model)],
        ["## Output", "", *preprocessing.outputs(model)],
        ["## Use", "", *_use(model, exported)],
        ["## Training", "", *_training(details, spec, preprocessing.parameters(model.net))],
        ["## Data", "", *_data(details)],
        ["## Environment", "", *_pairs(details.environment, without=ELSEWHERE)],
    ]
    return "\n\n".join("\n".join(block) for block in blocks) + "\n"


def _metrics(details: JobDetails) -> list[str]:
    from jobs.preprocessing import table

    parts = ("train", "val", "test")
    names = sorted({name.partition("_")[2] for name in details.metrics if name.startswith(parts)})
    rows = [[name, *(_number(details.metrics.get(f"{part}_{name}")) for part in parts)] for name in names]
    told = f"At epoch {details.best_epoch} of {details.epochs}, the best by validation; ranked by `{details.metric}` "
    told += f"({details.mode})."
    if any(name.startswith("test_") for name in details.metrics):
        told += " The test part chose nothing and was looked at once, with these weights."
    return [told, "", *table(["metric", "training", "validation", "test"], rows)]


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.6g}"


def _use(model: "Model", exported: "Exported") -> list[str]:
    from jobs.export import TOLERANCE, row_type

    facts = {"shape": ", ".join(map(str, model.signature.input_shape)), "type": str(row_type(model)).split(".")[1]}
    ways = [("With Gridyard, from its checkout", WITH_GRIDYARD.format(given=GIVEN[model.signature.kind]))]
    if "model.onnx" in exported.checks:
        ways.append(("With onnxruntime alone", WITH_ONNX.format(**facts)))
    if "model.pt2" in exported.checks:
        ways.append(("With torch alone", WITH_TORCH.format(**facts)))
    lines = [line for title, code in ways for line in (f"{title}:", "", "```python", code, "```", "")]
    for name, check in exported.checks.items():
        lines.append(
            f"{name} was compared with the model on {check.rows} rows, {check.real} of them of the test part: the "
            f"largest difference is {check.relative:.2g} of the largest prediction (allowed {TOLERANCE:g}), "
            f"{check.absolute:.2g} absolute."
        )
    return [*lines, *(f"{note}." for note in exported.notes)]


def _training(details: JobDetails, spec: JobSpec, parameters: int) -> list[str]:
    stopping = spec.early_stopping
    facts: dict[str, Any] = {
        "seed": details.seed,
        "parameters of the network": f"{parameters:,}",
        "epochs": f"{details.epochs} of at most {spec.epochs}",
        "early stopping": "none" if stopping is None else f"{stopping.monitor}, patience {stopping.patience}",
        "seconds": _number(details.seconds),
        **{f"`{name}`": value for name, value in details.params.items()},
    }
    return _pairs(facts)


def _data(details: JobDetails) -> list[str]:
    given = [value for value in details.params.values() if isinstance(value, str)]
    named = (details.task, *catalogue.find(details.task).data, *given)
    licences = {SETS[name].name: SETS[name] for name in named if name in SETS}
    environment = details.environment
    facts: dict[str, Any] = {"fingerprint": environment.get("data")}
    facts |= {f"{part} rows": number for part, number in environment.get("rows", {}).items()}
    told = [f"Data set `{name}`: {one.summary}. Licence: {one.licence}." for name, one in licences.items()]
    told = told or ["The user's own data; its licence is not known to Gridyard."]
    return [*told, "", *_pairs(facts), *(f"- {note}" for note in environment.get("notes", []))]


def _pairs(facts: Mapping[str, Any], without: Sequence[str] = ()) -> list[str]:
    return [f"- {name}: {parameter(value)}" for name, value in facts.items() if name not in without]
