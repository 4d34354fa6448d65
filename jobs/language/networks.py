"""Causal language models of transformers as networks, and their loss."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoConfig, AutoModelForCausalLM, GPT2Config, PretrainedConfig, PreTrainedModel

from jobs.catalogue.language import CausalLmParams
from jobs.errors import InputError
from jobs.forward import precise
from jobs.language import places
from jobs.language.tokenizer import Tokenizer
from jobs.layers import stateless_dropout
from jobs.spec import Json

# Attention's own dropout draws from torch's stream, whose numbers differ between devices. Its names over the families.
ATTENTION_DROPOUT = ("attn_pdrop", "attention_dropout", "attention_probs_dropout_prob")

MOST_LOGITS = 7_500_000  # made at a time, 30 MB: the allocator of Linux asks the system anew for blocks from 32 MB
NO_PART = ("_name_or_path", "transformers_version", "auto_map")  # of what a config says of its network


class Causal(nn.Module):
    """A causal language model. Its state_dict holds weights that it uses twice only once.

    As a network it gives hidden states: the logits of a large vocabulary are by far the largest of its tensors, and its
    loss (`NextToken`) makes them in parts.
    """

    def __init__(self, lm: PreTrainedModel) -> None:
        super().__init__()
        self.lm = lm
        self.register_state_dict_post_hook(_without_twins)  # type: ignore[no-untyped-call]
        self.register_load_state_dict_pre_hook(_with_twins)  # type: ignore[no-untyped-call]
        self.plain = self._is_plain()

    def forward(self, tokens: Tensor) -> Tensor:
        """
        Args:
            tokens: (B, T) of any type of whole numbers.

        Returns: (B, T, W) hidden states, of which `head` makes logits; those at t are of the token at t + 1.
        """
        if not self.plain:
            return self.logits(tokens)
        states: Tensor = self.lm.base_model(input_ids=tokens.long(), use_cache=False).last_hidden_state
        return states

    def logits(self, tokens: Tensor) -> Tensor:
        """(B, T) -> (B, T, V)."""
        logits: Tensor = self.lm(input_ids=tokens.long(), use_cache=False).logits
        return logits

    def head(self, states: Tensor) -> Tensor:
        """What `forward` gave as logits: (…, V)."""
        if not self.plain:
            return states
        logits: Tensor = self.lm.get_output_embeddings()(states)
        return logits

    def _is_plain(self) -> bool:
        """Whether the output layer alone makes the logits; some families scale or bound them too."""
        self.plain, training = True, self.training
        self.eval()
        try:
            with torch.inference_mode():
                tokens = torch.zeros(1, 2, dtype=torch.long)
                return torch.allclose(self.head(self(tokens)), self.logits(tokens), atol=1e-5)
        except (AttributeError, TypeError):  # it is built in another way
            return False
        finally:
            self.train(training)

    @property
    def positions(self) -> int:
        """The most tokens that it sees."""
        return positions(self.lm.config)

    def twins(self) -> dict[str, str]:
        """Name of each weight that is also another's -> that other's name."""
        first: dict[int, str] = {}
        named = self.named_parameters(remove_duplicate=False)
        pairs = ((name, first.setdefault(id(weight), name)) for name, weight in named)
        return {name: other for name, other in pairs if name != other}


class NextToken:
    """Cross-entropy in nats of each token: what a network gave (B, T, …), (B, T) whole numbers -> (B, T)."""

    def __init__(self, net: Causal, precision: str) -> None:
        self.net, self.precision = net, precision

    def __call__(self, states: Tensor, targets: Tensor) -> Tensor:
        rows = max(1, MOST_LOGITS // int(self.net.lm.config.vocab_size))
        parts = zip(torch.split(states.flatten(0, 1), rows), torch.split(targets.flatten().long(), rows), strict=True)
        return torch.cat([self.part(*part) for part in parts]).view_as(targets)

    def part(self, states: Tensor, targets: Tensor) -> Tensor:
        """(N, …), (N,) -> (N,)."""
        with precise(states.device, self.precision):
            logits = self.net.head(states)
        return functional.cross_entropy(logits.float(), targets, reduction="none")


def _without_twins(module: nn.Module, state: dict[str, Tensor], prefix: str, metadata: Any) -> None:
    assert isinstance(module, Causal)
    for name in module.twins():
        del state[prefix + name]


def _with_twins(module: nn.Module, state: dict[str, Tensor], prefix: str, *rest: Any) -> None:
    assert isinstance(module, Causal)
    for name, other in module.twins().items():
        if prefix + other in state:  # else the message about what is missing should name it once
            state[prefix + name] = state[prefix + other]


def small_gpt2(params: CausalLmParams, tokenizer: Tokenizer) -> PretrainedConfig:
    """The config of a new GPT-2 (Radford et al. 2019).

    Raises:
        InputError: the heads cannot share the width.
    """
    if params.width % params.heads:
        raise InputError(
            f"width {params.width} cannot be shared by {params.heads} heads; give a width that is a multiple of heads"
        )
    return GPT2Config(
        vocab_size=tokenizer.size,
        n_positions=params.context,
        n_embd=params.width,
        n_layer=params.layers,
        n_head=params.heads,
        embd_pdrop=params.dropout,
        resid_pdrop=params.dropout,
        attn_pdrop=0.0,
        bos_token_id=tokenizer.begin,
        eos_token_id=tokenizer.end,
    )


def fresh(config: PretrainedConfig, dropout: float) -> Causal:
    """A network with weights from torch's stream. No code but that of transformers is run."""
    with quiet():
        lm = AutoModelForCausalLM.from_config(
            config, trust_remote_code=False, dtype=torch.float32, attn_implementation="sdpa"
        )
    return _ready(lm, dropout)


def pretrained(folder: Path, dropout: float = 0.0) -> Causal:
    """The network of a folder, in float32: config.json and safetensors, nothing that could run code.

    Raises:
        InputError: the folder is no causal language model's, or its files do not fit together.
    """
    places.config(folder)
    try:
        with quiet():
            config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
            for name in ATTENTION_DROPOUT:
                if hasattr(config, name):
                    setattr(config, name, 0.0)
            lm = AutoModelForCausalLM.from_pretrained(
                folder,
                config=config,
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=True,
                dtype=torch.float32,
                attn_implementation="sdpa",
            )
    except (OSError, ValueError, KeyError, RuntimeError) as error:  # whatever is wrong with the files of a folder
        reason = " ".join(str(error).split())[:300]
        raise InputError(f"{folder} holds no causal language model that transformers can read: {reason}") from error
    return _ready(lm, dropout)


def _ready(lm: PreTrainedModel, dropout: float) -> Causal:
    stateless_dropout(lm, dropout)
    return Causal(lm)


def positions(config: PretrainedConfig) -> int:
    """The most tokens that a model of this config sees; the largest number where it sets no limit."""
    return int(getattr(config, "max_position_embeddings", None) or 2**31 - 1)


def described(config: PretrainedConfig) -> Json:
    """A config as JSON, from which `from_description` makes it again."""
    found: Json = json.loads(config.to_json_string(use_diff=True))
    return {name: value for name, value in found.items() if name not in NO_PART}


def from_description(facts: Json) -> PretrainedConfig:
    """The config that `described` told of; what else the facts of a file may name is no part of it."""
    config: PretrainedConfig = AutoConfig.for_model(
        **{key: value for key, value in facts.items() if key not in NO_PART}
    )
    return config


@contextmanager
def quiet() -> Iterator[None]:
    """Within, transformers shows no progress bars and no advice; after, all is as before."""
    verbosity, bars = transformers.logging.get_verbosity(), transformers.logging.is_progress_bar_enabled()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers.logging.set_verbosity(verbosity)
        if bars:
            transformers.logging.enable_progress_bar()
