"""Texts written by a causal language model, KoGPT2 or another: a grid over how the next token is chosen."""

from functools import lru_cache
from pathlib import Path

import torch

from jobs.catalogue.language import KoGpt2Params
from jobs.errors import InputError
from jobs.language import measures, models, places
from jobs.language.models import NamedText
from jobs.language.writing import Text, Writer
from jobs.problem import Signature, Writing
from jobs.spec import Json


def model(params: KoGpt2Params, signature: Signature) -> NamedText:
    return NamedText(signature, params)


def build(params: KoGpt2Params, seed: int) -> Writing:
    folder = places.folder("model", params.model)
    tokens = models.tokenizer_folder(params.tokenizer, folder)
    writer = loaded(folder, tokens, stamp(folder, tokens))
    writer.begun(params.prompts, params)  # refuses now what could not be written
    fingerprint = places.fingerprint(folder, tokens)
    if params.fingerprint not in (None, fingerprint):
        raise InputError(f"the files of {folder} have changed since the sweep was submitted; submit again")
    about: Json = {"model": params.model, "tokenizer": params.tokenizer, "fingerprint": fingerprint}
    signature = Signature(kind="text", input_shape=(), about=about)

    def write(device: torch.device) -> tuple[dict[str, float], list[Json]]:
        writer.lm.to(device)  # type: ignore[arg-type]
        texts = writer.write(params.prompts, params, seed)
        return measured(texts), [text.as_json() for text in texts]

    return Writing(model=model(params, signature), fingerprint=fingerprint, write=write)


@lru_cache(maxsize=1)
def loaded(folder: Path, tokens: Path, stamp: tuple[int, ...]) -> Writer:
    """The model of a folder; the next jobs of a trainer, which mostly use the same, get it at once."""
    return models.found(folder, tokens)


def stamp(*folders: Path) -> tuple[int, ...]:
    """When the files of folders were changed: another model in the same folder is loaded anew."""
    return tuple(path.stat().st_mtime_ns for folder in folders for path in sorted(folder.iterdir()))


def measured(texts: list[Text]) -> dict[str, float]:
    """What a job of this task reports."""
    written = [text.new for text in texts]
    losses = torch.cat([text.losses for text in texts])
    return {
        "perplexity": float(losses.mean().exp()),
        "distinct_1": measures.distinct(written, 1),
        "distinct_2": measures.distinct(written, 2),
        "repetition": measures.repetition(written),
        "tokens_per_second": len(losses) / sum(text.seconds for text in texts),
    }
