"""The best model as one safetensors file: from raw rows to predictions, complete without the data or the database."""

import hashlib
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor

from jobs import tasks, tensorfile
from jobs.environment import software
from jobs.errors import CheckpointDamaged, GridyardError
from jobs.params import Params
from jobs.problem import Model, Signature
from jobs.randomness import Purpose, drawn_from
from jobs.spec import BestModel, JobSpec
from jobs.store import Store
from jobs.tasks import TaskModule

FORMAT = "gridyard model 2"


def dump(model: Model, spec: JobSpec) -> bytes:
    """The file of a trained model."""
    signature = model.signature
    facts = {
        "format": FORMAT,
        "gridyard": software()["gridyard"],
        "task": spec.task,
        "params": spec.params,
        "kind": signature.kind,
        "input_shape": signature.input_shape,
        "features": signature.features,
        "classes": signature.classes,
        "about": signature.about,
    }
    return tensorfile.pack(model.state_dict(), facts)


def load(content: bytes) -> Model:
    """The model, in eval mode: takes raw rows (B, *input_shape), gives logits (B, classes) or values (B, 1).

    It has `task`, `classes` and `features`. Built by the task's own code; nothing in the file is executed.

    Raises:
        CheckpointDamaged: the file is not whole, or is no model.
        UnknownTask: this version of Gridyard does not know its task.
    """
    tensors, facts = tensorfile.unpack(content, "the model")
    if facts.get("format") != FORMAT:
        raise CheckpointDamaged(f"the model's format is {facts.get('format')!r}; this version reads {FORMAT!r}")
    try:
        shape = {name: tuple(facts[name]) for name in ("input_shape", "features", "classes")}
        signature = Signature(kind=facts["kind"], about=facts["about"], **shape)
        module, params = tasks.load(facts["task"], facts["params"])
    except ValidationError as error:
        raise CheckpointDamaged(f"the model's parameters are none of this version: {error}") from error
    except (KeyError, TypeError, AttributeError) as error:
        raise CheckpointDamaged(f"the model does not say what it is: {type(error).__name__}: {error}") from error
    try:
        _refuse_other_shapes(facts["task"], module, params, signature, tensors)
        with drawn_from(0, Purpose.INIT):  # weights drawn here are overwritten below
            model = module.model(params, signature)
    except GridyardError:
        raise
    except Exception as error:  # whatever a task's code makes of facts that are none
        raise CheckpointDamaged(f"the model cannot be built: {type(error).__name__}: {error}") from error
    return filled(model, tensors, facts["task"])


def _refuse_other_shapes(
    task: str, module: TaskModule, params: Params, signature: Signature, tensors: dict[str, Tensor]
) -> None:
    """A small file may describe a network that fills the memory; without memory it is built first.

    Raises:
        CheckpointDamaged: the network that the facts describe is not that of the tensors.
    """
    try:
        with torch.device("meta"), drawn_from(0, Purpose.INIT):
            outline = module.model(params, signature).state_dict()
    except Exception:  # a task of the user's own may look at values, which are not there
        return
    described, held = ({name: tensor.shape for name, tensor in one.items()} for one in (outline, tensors))
    if wrong := [name for name in described | held if described.get(name) != held.get(name)]:
        raise CheckpointDamaged(f"the model does not fit task {task!r} of this version: {', '.join(wrong[:3])}")


def filled(model: Model, tensors: dict[str, Tensor], task: str) -> Model:
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        raise CheckpointDamaged(f"the model does not fit task {task!r} of this version: {error}") from error
    model.task = task
    return model.eval()


def keep(content: bytes, store: Store, path: str, small_model_bytes: int) -> BestModel:
    """Small models stay in the record, others go to the store."""
    small = len(content) <= small_model_bytes
    if not small:
        store.write(path, content)
    kept: dict[str, Any] = {"content": content} if small else {"path": path}
    return BestModel(sha256=hashlib.sha256(content).hexdigest(), size=len(content), **kept)
