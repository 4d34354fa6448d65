"""A text, a tokenizer and a model so small that tests make them on the spot."""

import json
from pathlib import Path
from typing import Any

import tokenizers
import torch
from tokenizers import decoders, models, pre_tokenizers, trainers
from transformers import GPT2Config, GPT2LMHeadModel

LINES = ("the cat sat on the mat", "a dog ran after the cat", "she sells sea shells", "he sat by the sea and ran")
TEXT = "".join(f"{number} {LINES[number * number % 7 % 4]}\n" for number in range(400))


def write_tokenizer(folder: Path, size: int = 300, **special: Any) -> None:
    """tokenizer.json of byte pairs, and a config that names its special tokens, </s> if none is given."""
    folder.mkdir(parents=True, exist_ok=True)
    made = tokenizers.Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=["</s>"], initial_alphabet=alphabet, show_progress=False
    )
    made.train_from_iterator([TEXT], trainer)
    made.save(str(folder / "tokenizer.json"))
    named = special or {"bos_token": "</s>", "eos_token": "</s>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(named))


def write_model(folder: Path, size: int = 300, dropout: float = 0.1) -> None:
    """A GPT-2 of random weights, drawn wide so that its likeliest tokens vary."""
    torch.manual_seed(5)
    config = GPT2Config(
        vocab_size=size, n_positions=32, n_embd=16, n_layer=1, n_head=2, bos_token_id=0, eos_token_id=0,
        resid_pdrop=dropout, embd_pdrop=dropout, attn_pdrop=dropout, initializer_range=0.5,
    )  # fmt: skip
    GPT2LMHeadModel(config).save_pretrained(folder)


def write_folder(folder: Path) -> Path:
    """A model with its tokenizer."""
    write_tokenizer(folder)
    write_model(folder)
    return folder
