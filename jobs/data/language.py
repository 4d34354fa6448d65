"""From what the homes of texts, tokenizers and KoGPT2 give to what is read here: text, JSON and safetensors."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

SHORTEST, LONGEST = 25, 139  # characters of a review
CORPUS = 2_000_000  # characters of all
KOGPT2_SPECIAL = {
    "bos_token": "</s>",
    "eos_token": "</s>",
    "unk_token": "<unk>",
    "pad_token": "<pad>",
    "mask_token": "<mask>",
}  # as SKT-AI/KoGPT2's README gives them


def korean_reviews(raw: Path, target: Path) -> None:
    """Different Korean reviews, one a line, about 2 million characters. The home gives id, text and label by tabs."""
    seen: dict[str, None] = {}
    left = CORPUS
    for line in (raw / "ratings_train.txt").read_text(encoding="utf-8").split("\n")[1:]:
        text = " ".join(line.split("\t")[1].split()) if line.count("\t") == 2 else ""
        if SHORTEST <= len(text) <= LONGEST and re.search("[가-힣]", text) and text not in seen:
            seen[text] = None
            left -= len(text)
        if left <= 0:
            break
    (target / "corpus_ko.txt").write_text("".join(f"{text}\n" for text in seen), encoding="utf-8", newline="\n")


def kogpt2_tokenizer(raw: Path, target: Path) -> None:
    """The tokenizer, and the special tokens that its home leaves to whoever loads it."""
    shutil.copyfile(raw / "tokenizer.json", target / "tokenizer.json")
    write_json(target / "tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast", **KOGPT2_SPECIAL})


def kogpt2(raw: Path, target: Path) -> None:
    """The weights as safetensors. Only tensors are read of the home's file: code in it is refused, never run.

    Raises:
        pickle.UnpicklingError: the file holds something else than tensors.
    """
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config.from_pretrained(raw)
    weights = torch.load(raw / "pytorch_model.bin", map_location="cpu", weights_only=True)
    model = GPT2LMHeadModel.from_pretrained(None, config=config, state_dict=weights)
    model.save_pretrained(target)
    kogpt2_tokenizer(raw, target)


def write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
