"""Texts that a language model writes, by transformers' `generate`."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import GenerationConfig, PreTrainedModel, StoppingCriteria, StoppingCriteriaList

from jobs import pausing
from jobs.catalogue.language import WritingParams
from jobs.errors import InputError
from jobs.language.networks import positions, quiet
from jobs.language.tokenizer import Tokenizer
from jobs.randomness import Purpose, mix
from jobs.spec import Json


@dataclass(frozen=True, kw_only=True)
class Text:
    """One text that was written."""

    prompt: str
    text: str  # the prompt and what follows
    new: list[int]  # tokens that were written, without one that ended the text
    losses: Tensor  # (tokens written,) float64, in nats: of each under the model, also of one that ended the text
    seconds: float

    @property
    def perplexity(self) -> float:
        """e to the mean loss: of the written tokens under the model itself, without temperature, top_k and the like."""
        return float(self.losses.mean().exp())

    def as_json(self) -> Json:
        """As it is kept with a job."""
        return {
            "prompt": self.prompt,
            "text": self.text,
            "new_tokens": len(self.new),
            "perplexity": self.perplexity,
            "seconds": self.seconds,
        }


@dataclass(frozen=True, kw_only=True)
class Writer:
    """A language model with its tokenizer."""

    lm: PreTrainedModel
    tokenizer: Tokenizer
    special: bool  # prompts begin as the tokenizer begins texts; not for a model that never saw such a begin
    ends: tuple[int, ...]  # tokens that end a text

    def write(self, prompts: Sequence[str], settings: WritingParams, seed: int) -> list[Text]:
        """A text for each prompt, whatever the others are: each draws from a stream of its own.

        Raises:
            InputError: a prompt is too long for max_length, or max_length for the model.
        """
        return [
            self._one(prompt, tokens, settings, mix(seed, Purpose.WRITE, number))
            for number, (prompt, tokens) in enumerate(zip(prompts, self.begun(prompts, settings), strict=True))
        ]

    def begun(self, prompts: Sequence[str], settings: WritingParams) -> list[list[int]]:
        """The prompts as tokens.

        Raises:
            InputError: as `write`.
        """
        most = positions(self.lm.config)
        if settings.max_length > most:
            raise InputError(f"max_length {settings.max_length} is more than the {most} tokens that the model sees")
        return [self._begun(prompt, settings.max_length) for prompt in prompts]

    def _begun(self, prompt: str, max_length: int) -> list[int]:
        tokens = self.tokenizer.tokens(prompt, special=self.special) if prompt else []
        if not tokens:
            if self.tokenizer.begin is None:
                raise InputError(
                    "a prompt is empty, and the tokenizer has no token to begin a text with; give some words"
                )
            tokens = [self.tokenizer.begin]
        if len(tokens) >= max_length:
            shown = prompt if len(prompt) <= 40 else f"{prompt[:40]}…"
            raise InputError(
                f'the prompt "{shown}" has {len(tokens)} tokens, which leaves none of max_length {max_length} to '
                "write; raise max_length or shorten the prompt"
            )
        return tokens

    def _one(self, prompt: str, tokens: list[int], settings: WritingParams, seed: int) -> Text:
        device = next(self.lm.parameters()).device
        given = torch.tensor([tokens], device=device)
        started = time.perf_counter()
        with torch.inference_mode(), evaluating(self.lm), seeded(seed, device), quiet():
            generate: Callable[..., Tensor] = self.lm.generate  # type: ignore[assignment]
            mask, config = torch.ones_like(given), self._config(settings)
            leaving = StoppingCriteriaList([Leaving()])
            written = generate(given, attention_mask=mask, generation_config=config, stopping_criteria=leaving)
            seconds = _since(started, device)
            losses = self._losses(written, len(tokens))
        whole: list[int] = written[0].tolist()
        new = whole[len(tokens) :]
        return Text(
            prompt=prompt,
            text=self.tokenizer.text(whole),
            new=new[:-1] if new[-1] in self.ends else new,
            losses=losses.double().cpu(),
            seconds=seconds,
        )

    def _losses(self, tokens: Tensor, given: int) -> Tensor:
        """-log p of each token after the given ones: (T - given,), from tokens (1, T)."""
        logits = self.lm(input_ids=tokens[:, :-1], use_cache=False).logits[0, given - 1 :]
        return nn.functional.cross_entropy(logits.float(), tokens[0, given:], reduction="none")

    def _config(self, settings: WritingParams) -> GenerationConfig:
        drawn = settings.temperature > 0
        choice = {"temperature": settings.temperature, "top_k": settings.top_k, "top_p": settings.top_p}
        return GenerationConfig(
            max_length=settings.max_length,
            do_sample=drawn,
            repetition_penalty=settings.repetition_penalty,
            bos_token_id=self.tokenizer.begin,
            eos_token_id=list(self.ends) or None,
            pad_token_id=self.ends[0] if self.ends else 0,  # nothing is padded; without one transformers complains
            **(choice if drawn else {}),
        )


class Leaving(StoppingCriteria):
    """Stops no text; but after each token, it may be left."""

    def __call__(self, input_ids: Tensor, scores: Tensor, **_: object) -> Tensor:
        pausing.point()
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Within, no dropout; after, as before."""
    training = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(training)


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Within, torch's streams of the CPU and of this device are seeded; after, they are as before."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def _since(started: float, device: torch.device) -> float:
    """Seconds, when the device has done all it was told."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started
