"""The next token of a user's text: a pretrained causal language model fine-tuned, or a small GPT-2 trained afresh."""

import hashlib
from pathlib import Path

import torch

from jobs import sources
from jobs.catalogue.language import CausalLmParams
from jobs.errors import CheckpointDamaged, InputError
from jobs.language import models, networks, places, prepare_text, texts, tokenizer
from jobs.language.models import TrainedText
from jobs.language.networks import Causal, NextToken
from jobs.language.texts import Part
from jobs.language.tokenizer import Tokenizer
from jobs.problem import Problem, Signature, Split
from jobs.spec import Json

MOST_LOGITS = 2**25  # of one forward pass in evaluation: 134 MB
SHORT_PROMPT = 8  # tokens of the validation part from which a text goes on where no prompts are given


def model(params: CausalLmParams, signature: Signature) -> TrainedText:
    try:
        net = networks.fresh(networks.from_description(signature.about["config"]), params.dropout)
    except Exception as error:  # whatever transformers raises at a config that was tampered with
        raise CheckpointDamaged(f"the model's config describes no causal language model: {error}") from error
    return TrainedText(signature, net, within(params, net))


def build(params: CausalLmParams, seed: int) -> Problem:
    path, content = text(params)
    folder = None if params.model is None else places.folder("model", params.model)
    tokens, net, special = network(params, folder)
    made = trainable(net, tokens, folder, special, params)
    parts = texts.tokenised(path, content, tokens)
    train, val, test = (split(part, name, params.context) for name, part in parts.items())
    prompts = params.prompts or [beginning(parts["val"], tokens, made.settings.max_length)]
    made.writer.begun(prompts, made.settings)  # refuses now what could not be written at the end
    return Problem(
        model=made,
        loss=NextToken(net, params.precision),
        train=train,
        val=val,
        test=test,
        fingerprint=fingerprint(content, tokens, folder),
        write=lambda: [found.as_json() for found in made.writer.write(prompts, made.settings, seed)],
        evaluation_rows=max(1, MOST_LOGITS // (params.context * net.lm.config.vocab_size)),
        notes=notes(parts, tokens),
    )


def text(params: CausalLmParams) -> tuple[Path, str]:
    """The user's text, as it was at submission, and its sha256."""
    if params.data is None:
        raise InputError("data is missing; give the path of your text")
    path = sources.opened(params.data)
    return path, sources.check(path, params.fingerprint)


def network(params: CausalLmParams, folder: Path | None) -> tuple[Tokenizer, Causal, bool]:
    """Tokenizer and network, and whether the network knows the token that begins a text."""
    if folder is None:
        if params.tokenizer is None:
            raise InputError(prepare_text.NEEDS_ONE)
        tokens = tokenizer.read(places.folder("tokenizer", params.tokenizer))
        return tokens, networks.fresh(networks.small_gpt2(params, tokens), params.dropout), False
    tokens = models.beginning(tokenizer.read(models.tokenizer_folder(params.tokenizer, folder)), folder)
    places.refuse_larger(tokens, places.config(folder))
    net = networks.pretrained(folder, params.dropout)
    if params.context > net.positions:
        raise InputError(f"context {params.context} is more than the {net.positions} tokens that the model sees")
    return tokens, net, True


def trainable(
    net: Causal, tokens: Tokenizer, folder: Path | None, special: bool, params: CausalLmParams
) -> TrainedText:
    """The model, with its tokenizer inside."""
    known = () if tokens.end is None else (tokens.end,)
    about: Json = {
        "config": networks.described(net.lm.config),
        "tokenizer_bytes": len(tokens.content),
        "begin": tokens.begin,
        "end": tokens.end,
        "special": special,
        "ends": list(known if folder is None else models.endings(folder, tokens)),
    }
    made = TrainedText(Signature(kind="text", input_shape=(), about=about), net, within(params, net))
    made.tokenizer_json.copy_(torch.frombuffer(bytearray(tokens.content), dtype=torch.uint8))
    return made


def within(params: CausalLmParams, net: Causal) -> CausalLmParams:
    """The parameters, with a max_length that the network can see."""
    return params.model_copy(update={"max_length": min(params.max_length, net.positions)})


def beginning(part: Part, tokens: Tokenizer, max_length: int) -> str:
    """The first words of a part: some tokens, at most half of a text."""
    return tokens.text(part.tokens[: min(SHORT_PROMPT, max_length // 2)].tolist())


def split(part: Part, name: str, context: int) -> Split:
    """One part of the text; row i is its i-th block."""
    inputs, targets = texts.blocks(part, name, context)
    return Split(inputs=inputs, targets=targets, truth=targets, rows=torch.arange(len(inputs)))


def fingerprint(content: str, tokens: Tokenizer, folder: Path | None) -> str:
    """sha256 over the text, the tokenizer, and the weights that are fine-tuned."""
    parts = [content, tokens.fingerprint, "" if folder is None else places.fingerprint(folder, folder)]
    return hashlib.sha256("/".join(parts).encode()).hexdigest()


def notes(parts: dict[str, Part], tokens: Tokenizer) -> tuple[str, ...]:
    """What a perplexity of this text and tokenizer is to be compared with."""
    lines = []
    for name in ("val", "test"):
        part = parts[name]
        baseline = texts.unigram_perplexity(parts["train"], part, tokens.size)
        lines.append(
            f"{name}: {part.characters:,} characters in {len(part.tokens):,} tokens, so log2(perplexity) x "
            f"{len(part.tokens) / part.characters:.4f} are bits per character; by the tokens' frequencies alone the "
            f"perplexity is {baseline:.1f}"
        )
    return tuple(lines)
