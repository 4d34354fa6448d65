"""From a llama2.c checkpoint (version 0) and its tokenizer to what transformers reads: JSON and safetensors.

Source of the layouts: karpathy/llama2.c, export.py (legacy_export) and tokenizer.py (export).
"""

import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from jobs.data.language import write_json

if TYPE_CHECKING:
    from torch import Tensor

SPECIAL = ("<unk>", "<s>", "</s>")
BYTES = tuple(f"<0x{byte:02X}>" for byte in range(256))
NORMALIZER = {
    "type": "Sequence",
    "normalizers": [
        {"type": "Prepend", "prepend": "▁"},
        {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
    ],
}
DECODER = {
    "type": "Sequence",
    "decoders": [
        {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
        {"type": "Strip", "content": " ", "start": 1, "stop": 0},
    ],
}


def stories260k(raw: Path, target: Path) -> None:
    """stories260K.bin and tok512.bin as config, weights and tokenizer."""
    from safetensors.torch import save_file

    with (raw / "stories260K" / "stories260K.bin").open("rb") as file:
        dim, hidden, layers, heads, kv_heads, vocabulary, positions = struct.unpack("<7i", file.read(28))
        config = _llama(dim, hidden, layers, heads, kv_heads, abs(vocabulary), positions)
        weights = _weights(file, config)
    save_file(weights, target / "model.safetensors", metadata={"format": "pt"})
    write_json(target / "config.json", config)
    write_json(target / "tokenizer.json", _tokenizer(_pieces(raw / "stories260K" / "tok512.bin")))
    special = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "clean_up_tokenization_spaces": False}
    facts = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": positions}
    write_json(target / "tokenizer_config.json", {**facts, **special})


def _llama(
    dim: int, hidden: int, layers: int, heads: int, kv_heads: int, vocabulary: int, positions: int
) -> dict[str, Any]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": dim,
        "intermediate_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "head_dim": dim // heads,
        "vocab_size": vocabulary,
        "max_position_embeddings": positions,
        "rms_norm_eps": 1e-5,
        "rope_parameters": {"rope_theta": 10000.0, "rope_type": "default"},
        "tie_word_embeddings": True,
        "bos_token_id": 1,
        "eos_token_id": 1,  # the stories of its training end with the begin of the next
        "dtype": "float32",
    }


def _weights(file: BinaryIO, config: dict[str, Any]) -> "dict[str, Tensor]":
    """Each kind of weight follows for all layers before the next kind begins."""
    dim, hidden, layers = config["hidden_size"], config["intermediate_size"], config["num_hidden_layers"]
    kv_dim = config["head_dim"] * config["num_key_value_heads"]
    kinds = {
        "input_layernorm": (dim,),
        "self_attn.q_proj": (dim, dim),
        "self_attn.k_proj": (kv_dim, dim),
        "self_attn.v_proj": (kv_dim, dim),
        "self_attn.o_proj": (dim, dim),
        "post_attention_layernorm": (dim,),
        "mlp.gate_proj": (hidden, dim),
        "mlp.down_proj": (dim, hidden),
        "mlp.up_proj": (hidden, dim),
    }
    weights = {"model.embed_tokens.weight": _read(file, config["vocab_size"], dim)}
    for kind, shape in kinds.items():
        for layer, weight in enumerate(_read(file, layers, *shape)):
            rotary = kind in ("self_attn.q_proj", "self_attn.k_proj")
            name = f"model.layers.{layer}.{kind}.weight"
            weights[name] = _halves(weight, config["head_dim"]) if rotary else weight.clone()
    weights["model.norm.weight"] = _read(file, dim)
    return weights


def _read(file: BinaryIO, *shape: int) -> "Tensor":
    import numpy as np
    import torch

    count = int(np.prod(shape))
    values = np.frombuffer(file.read(4 * count), dtype="<f4")
    if len(values) != count:
        raise ValueError("stories260K.bin ends too early")
    return torch.from_numpy(values.copy()).reshape(shape)


def _halves(weight: "Tensor", head_dim: int) -> "Tensor":
    """Rotary pairs lie side by side in llama2.c, and in the two halves of a head in transformers."""
    rows, dim = weight.shape
    pairs = weight.view(rows // head_dim, head_dim // 2, 2, dim)
    return pairs.transpose(1, 2).reshape(rows, dim).contiguous()


def _pieces(path: Path) -> list[str]:
    """The vocabulary of a llama2.c tokenizer: after its longest piece's length, a score, length and bytes per piece."""
    content, place, pieces = path.read_bytes(), 4, []
    while place < len(content):
        _, length = struct.unpack_from("<fi", content, place)
        pieces.append(content[place + 8 : place + 8 + length].decode("utf-8"))
        place += 8 + length
    given = (piece.replace(" ", "▁") for piece in pieces[len(SPECIAL + BYTES) :])
    return [*SPECIAL, *BYTES, *given]


def _tokenizer(pieces: list[str]) -> dict[str, Any]:
    """tokenizer.json of a sentencepiece vocabulary whose pieces stand in the order of their scores."""
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [_special(number, piece) for number, piece in enumerate(SPECIAL)],
        "normalizer": NORMALIZER,
        "pre_tokenizer": None,
        "post_processor": _begin(),
        "decoder": DECODER,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": "<unk>",
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": True,
            "byte_fallback": True,
            "ignore_merges": False,
            "vocab": vocabulary,
            "merges": _merges(vocabulary),
        },
    }


def _special(number: int, piece: str) -> dict[str, Any]:
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {"id": number, "content": piece, **flags, "special": True}


def _begin() -> dict[str, Any]:
    """A text begins with <s>."""
    begin = {"SpecialToken": {"id": "<s>", "type_id": 0}}
    first, second = ({"Sequence": {"id": name, "type_id": 0}} for name in "AB")
    return {
        "type": "TemplateProcessing",
        "single": [begin, first],
        "pair": [begin, first, begin, second],
        "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}},
    }


def _merges(vocabulary: dict[str, int]) -> list[list[str]]:
    """Each way to put a piece together of two others, in the order of the pieces."""
    merges = []
    for piece in list(vocabulary)[len(SPECIAL + BYTES) :]:
        parts = [[piece[:cut], piece[cut:]] for cut in range(1, len(piece))]
        known = [pair for pair in parts if pair[0] in vocabulary and pair[1] in vocabulary]
        merges += sorted(known, key=lambda pair: (vocabulary[pair[0]], vocabulary[pair[1]]))
    return merges
