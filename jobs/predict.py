"""From what a person gives to what a model makes of it: classes with probabilities, values, texts."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from jobs import inputs
from jobs.errors import InputError
from jobs.inputs import Broken, Given, Note
from jobs.problem import Model
from jobs.spec import Json


def predict(
    model: Model,
    given: Given,
    *,
    top: int | None = None,
    note: Note = lambda line: None,
    writing: Mapping[str, Any] | None = None,
) -> Iterator[Json]:
    """A prediction for each row, picture or prompt, as an object, one after the other.

    Each has `input`: the number of the row in its file, the picture's path, or the prompt; and

    * of a classifier `class`, `probability` and `probabilities`, those of the `top` likeliest classes, or of all;
    * of a regression `value`;
    * of a language model `text`, with the prompt;
    * of a picture that cannot be read `error`.

    Args:
        given: see `inputs.read`; for a language model a prompt, or several.
        note: told what the owner of the data should know.
        writing: settings of a language model: seed, temperature, top_k, top_p, repetition_penalty, max_length.

    Raises:
        InputError: the input does not fit the model; the message says what does.
    """
    if model.signature.kind == "text":
        return texts(model, given, writing or {})
    if writing:
        raise InputError(f"{', '.join(writing)}: this model does not write texts; leave them away")
    return rows(model, given, top, note)


@torch.inference_mode()
def rows(model: Model, given: Given, top: int | None, note: Note) -> Iterator[Json]:
    device = next(model.parameters()).device
    for batch in inputs.read(given, model.signature, note):
        if isinstance(batch, Broken):
            yield {"input": batch.name, "error": batch.error}
            continue
        predictions = model(batch.rows.to(device)).double().cpu()
        results = classes(model.classes, predictions, top) if model.classes else values(predictions)
        for name, result in zip(batch.names, results, strict=True):
            yield {"input": name, **result}


def classes(names: Sequence[str], logits: Tensor, top: int | None) -> Iterator[Json]:
    """Of logits (B, classes), the likeliest class first."""
    likeliest = logits.softmax(1).topk(min(top or len(names), len(names)), dim=1)
    for parts, places in zip(likeliest.values.tolist(), likeliest.indices.tolist(), strict=True):
        probabilities = {names[place]: part for place, part in zip(places, parts, strict=True)}
        yield {"class": names[places[0]], "probability": parts[0], "probabilities": probabilities}


def values(predictions: Tensor) -> Iterator[Json]:
    """Of values (B, 1), or lists of several."""
    return ({"value": value} for value in predictions.reshape(len(predictions), -1).squeeze(1).tolist())


def texts(model: Any, given: Given, writing: Mapping[str, Any]) -> Iterator[Json]:
    prompts = [given] if isinstance(given, str) else given
    if not isinstance(prompts, Sequence) or not all(isinstance(prompt, str) for prompt in prompts):
        raise InputError("this model continues a text: give a prompt, or several")
    for prompt, text in zip(prompts, model.write(prompts, **writing), strict=True):
        yield {"input": prompt, "text": text}
