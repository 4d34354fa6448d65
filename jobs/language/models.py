"""Language models as Gridyard keeps them: with their weights, or only their name. Both write."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike
from pydantic import ValidationError
from torch import Tensor, nn

from jobs.catalogue.language import WritingParams
from jobs.errors import InputError
from jobs.language import networks, places, tokenizer
from jobs.language.networks import Causal
from jobs.language.tokenizer import Tokenizer
from jobs.language.writing import Writer
from jobs.problem import Model, Signature
from jobs.spec import Json


class TextModel(Model):
    """A model of kind "text". `write` continues prompts; `forward` gives logits."""

    def __init__(self, signature: Signature, net: nn.Module, settings: WritingParams) -> None:
        super().__init__(signature, before=nn.Identity(), net=net, after=nn.Identity())
        self.settings = WritingParams(**{name: getattr(settings, name) for name in WritingParams.model_fields})

    @property
    def writer(self) -> Writer:
        """The network with its tokenizer, on the model's device."""
        raise NotImplementedError

    def forward(self, rows: ArrayLike | Tensor) -> Tensor:
        """Logits (B, T, V) of the next token at each place.

        Args:
            rows: (B, T), numbers of tokens.
        """
        lm = self.writer.lm
        given = rows if isinstance(rows, Tensor) else torch.from_numpy(np.asarray(rows))
        logits: Tensor = lm(input_ids=given.long().to(next(lm.parameters()).device), use_cache=False).logits
        return logits

    def write(self, prompts: Sequence[str], *, seed: int = 0, **settings: float) -> list[str]:
        """A text for each prompt, the prompt included; the same for the same seed.

        Args:
            settings: temperature, top_k, top_p, repetition_penalty, max_length; the job's where none is given.

        Raises:
            InputError: a setting has no such name or value, or a prompt is too long.
        """
        return [text.text for text in self.writer.write(prompts, self.chosen(settings), seed)]

    def chosen(self, settings: dict[str, float]) -> WritingParams:
        """The job's settings, but for those given."""
        try:
            return WritingParams.model_validate(self.settings.model_dump() | settings)
        except ValidationError as error:
            wrong = "; ".join(f"{'.'.join(map(str, found['loc']))}: {found['msg']}" for found in error.errors())
            known = ", ".join(WritingParams.model_fields)
            raise InputError(f"settings of writing: {wrong}. There are {known}") from None


class TrainedText(TextModel):
    """Its file holds all: weights, config and tokenizer.

    `signature.about`: config (transformers'), tokenizer_bytes, begin, end, special, ends.
    """

    tokenizer_json: Tensor  # (bytes,) uint8

    def __init__(self, signature: Signature, net: Causal, settings: WritingParams) -> None:
        super().__init__(signature, net, settings)
        self.register_buffer("tokenizer_json", torch.zeros(signature.about["tokenizer_bytes"], dtype=torch.uint8))

    @cached_property
    def tokenizer(self) -> Tokenizer:
        about = self.signature.about
        content = self.tokenizer_json.cpu().numpy().tobytes()
        return Tokenizer(content, begin=about["begin"], end=about["end"])

    @property
    def writer(self) -> Writer:
        assert isinstance(self.net, Causal)
        about = self.signature.about
        return Writer(lm=self.net.lm, tokenizer=self.tokenizer, special=about["special"], ends=tuple(about["ends"]))


class NamedText(TextModel):
    """Its file holds no weights: it names a model, which is found again, and fetched if need be, when it first writes.

    `signature.about`: model, tokenizer (as the job's parameters), fingerprint of the model.
    """

    place: Tensor  # (0,), on the model's device

    def __init__(self, signature: Signature, settings: WritingParams) -> None:
        super().__init__(signature, nn.Identity(), settings)
        self.register_buffer("place", torch.zeros(0), persistent=False)

    @property
    def writer(self) -> Writer:
        """
        Raises:
            InputError: the model is not here, or is not the one that the job wrote with.
        """
        found = self._found
        found.lm.to(self.place.device)  # type: ignore[arg-type]
        return found

    @cached_property
    def _found(self) -> Writer:
        about = self.signature.about
        folder = places.folder("model", about["model"])
        tokens = tokenizer_folder(about["tokenizer"], folder)
        if places.fingerprint(folder, tokens) != about["fingerprint"]:
            raise InputError(f"{folder} is not the model that the job wrote with: its files have changed")
        return found(folder, tokens)


def found(folder: Path, tokenizer_place: Path) -> Writer:
    """The model of a folder, ready to write.

    Raises:
        InputError: it is none, or the tokenizer does not belong to it.
    """
    tokens = tokenizer.read(tokenizer_place)
    places.refuse_larger(tokens, places.config(folder))
    net = networks.pretrained(folder)
    return Writer(lm=net.lm, tokenizer=beginning(tokens, folder), special=True, ends=endings(folder, tokens))


def tokenizer_folder(given: str | None, model: Path) -> Path:
    """Where the tokenizer lies: with the model, if none is named."""
    return model if given is None else places.folder("tokenizer", given)


def beginning(tokens: Tokenizer, folder: Path) -> Tokenizer:
    """The tokenizer, with the model's token for the begin of a text if it has none itself."""
    if tokens.begin is not None:
        return tokens
    begin = tokenizer.facts("model", folder / "config.json").get("bos_token_id")
    return Tokenizer(tokens.content, begin=begin if isinstance(begin, int) else None, end=tokens.end)


def endings(folder: Path, tokens: Tokenizer) -> tuple[int, ...]:
    """Tokens that end a text: what the model's own files say, else the tokenizer's."""
    for name in ("generation_config.json", "config.json"):
        given: Json = tokenizer.facts("model", folder / name)
        ends = given.get("eos_token_id")
        if ends is not None:
            return tuple(ends) if isinstance(ends, list) else (int(ends),)
    return () if tokens.end is None else (tokens.end,)
