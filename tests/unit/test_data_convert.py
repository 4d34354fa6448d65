"""What the homes give becomes what is read here, on small samples made on the spot and on the real files."""

import io
import json
import os
import pickle
import struct
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pooch
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel, LlamaForCausalLM

from jobs.data import images, language, stories, tables
from jobs.data.sets import SETS

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def real() -> Path:
    """The folder of the real data."""
    folder = Path(os.environ.get("GRIDYARD_DATA") or ROOT.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"no real data: there is no folder {folder}; GRIDYARD_DATA names another")
    return folder


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    (tmp_path / "raw").mkdir()
    return tmp_path / "raw"


@pytest.fixture
def target(tmp_path: Path) -> Path:
    (tmp_path / "target").mkdir()
    return tmp_path / "target"


def need(folder: Path, name: str) -> Path:
    """The set's folder in the real data, or a skip."""
    if missing := SETS[name].missing(folder / SETS[name].folder):
        pytest.skip(f"{folder} has no {name}: {missing}")
    return folder / SETS[name].folder


@pytest.mark.parametrize("name", [name for name in SETS if any(file.checksum for file in SETS[name].files)])
def test_the_real_files_have_the_checksums_of_the_table(real: Path, name: str) -> None:
    folder = need(real, name)
    for file in SETS[name].files:
        algorithm, _, expected = (file.checksum or "").partition(":")
        assert pooch.file_hash(str(folder / file.path), algorithm) == expected


def test_the_sizes_of_the_table_are_those_of_the_real_files(real: Path) -> None:
    for name in ("mnist", "auto_mpg", "diamonds", "tiny_shakespeare"):
        folder = need(real, name)
        assert SETS[name].size == sum((folder / source.path).stat().st_size for source in SETS[name].sources)


def housing_archive(path: Path, lines: list[str]) -> None:
    content = "\n".join(lines).encode()
    with tarfile.open(path, "w:gz") as archive:
        member = tarfile.TarInfo("CaliforniaHousing/cal_housing.data")
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))


def test_california_housing_becomes_averages_per_household(raw: Path, target: Path) -> None:
    line = "-122.230000,37.880000,41.000000,880.000000,129.000000,322.000000,126.000000,8.325200,452600.000000"
    housing_archive(raw / "cal_housing.tgz", [line])
    tables.california_housing(raw, target)
    header, row = (target / "california_housing.csv").read_text().splitlines()
    assert header == "MedInc,HouseAge,AveRooms,AveBedrms,Population,AveOccup,Latitude,Longitude,MedHouseVal"
    assert row == "8.3252,41.0,6.984126984126984,1.0238095238095237,322.0,2.5555555555555554,37.88,-122.23,4.526"


def test_california_housing_is_byte_for_byte_the_file_we_know(real: Path, raw: Path, target: Path) -> None:
    """The home's counts are whole numbers, so they can be had back from the averages."""
    known = (need(real, "california_housing") / "california_housing.csv").read_bytes()
    lines = []
    for row in np.loadtxt(io.BytesIO(known), delimiter=",", skiprows=1).tolist():
        income, age, rooms, bedrooms, population, occupants, latitude, longitude, value = row
        households = round(population / occupants)
        counts = [age, round(rooms * households), round(bedrooms * households), population, households]
        lines.append(",".join(map(repr, [longitude, latitude, *counts, income, round(value * 100_000)])))
    housing_archive(raw / "cal_housing.tgz", lines)
    tables.california_housing(raw, target)
    assert (target / "california_housing.csv").read_bytes() == known


def photo(size: tuple[int, int], mode: str = "RGB", kind: str = "JPEG") -> bytes:
    content = io.BytesIO()
    Image.new(mode, size, 100 if mode == "L" else None).save(content, kind)
    return content.getvalue()


def test_photos_become_small_ones_and_unreadable_ones_are_left_out(
    raw: Path, target: Path, caplog: pytest.LogCaptureFixture
) -> None:
    entries = {
        "PetImages/Cat/0.jpg": photo((500, 375)),
        "PetImages/Dog/12.jpg": photo((80, 100), "L"),
        "PetImages/Dog/13.jpg": photo((300, 600), "P", "GIF"),
        "PetImages/Cat/666.jpg": b"",
        "PetImages/Dog/11702.jpg": photo((500, 375))[:200],
        "PetImages/Cat/Thumbs.db": b"none of them",
        "PetImages/Cat/../../7.jpg": photo((50, 50)),
        "readme[1].txt": b"text",
    }
    with zipfile.ZipFile(raw / "kagglecatsanddogs_5340.zip", "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    images.cats_dogs(raw, target)
    made = {path.name: Image.open(path) for path in (target / "train").iterdir()}
    assert {name: (image.size, image.mode) for name, image in made.items()} == {
        "cat.0.jpg": ((267, 200), "RGB"),
        "dog.12.jpg": ((200, 250), "RGB"),
        "dog.13.jpg": ((200, 400), "RGB"),
    }
    assert "2 images could not be read and were left out: PetImages/Cat/666.jpg" in caplog.text
    for image in made.values():
        image.close()
    assert [path.name for path in target.iterdir()] == ["train"]


def test_reviews_become_a_line_each(raw: Path, target: Path) -> None:
    long, spaced = "재미있는 영화였습니다. " * 2, "정말  좋은\u3000영화라고 생각합니다. 또 보고 싶어요"
    documents = [long, "짧다", spaced, long, "an English review that is long enough", "가" * 140, ""]
    lines = ["id\tdocument\tlabel", *(f"{number}\t{text}\t1" for number, text in enumerate(documents)), "broken", ""]
    (raw / "ratings_train.txt").write_text("\n".join(lines), encoding="utf-8")
    language.korean_reviews(raw, target)
    assert (target / "corpus_ko.txt").read_text(encoding="utf-8").splitlines() == [
        long.strip(),
        "정말 좋은 영화라고 생각합니다. 또 보고 싶어요",
    ]


def test_reviews_end_at_two_million_characters(raw: Path, target: Path) -> None:
    texts = [f"{'가나다라마바사아자차' * 12} {number}" for number in range(20_000)]
    lines = ["id\tdocument\tlabel", *(f"{number}\t{text}\t0" for number, text in enumerate(texts))]
    (raw / "ratings_train.txt").write_text("\n".join(lines), encoding="utf-8")
    language.korean_reviews(raw, target)
    made = (target / "corpus_ko.txt").read_text(encoding="utf-8").splitlines()
    assert sum(map(len, made[:-1])) < language.CORPUS <= sum(map(len, made))
    assert made == texts[: len(made)]


def test_kogpt2_is_written_as_safetensors_with_the_same_weights(raw: Path, target: Path) -> None:
    config = GPT2Config(vocab_size=20, n_positions=8, n_embd=8, n_layer=1, n_head=2)
    model = GPT2LMHeadModel(config).eval()
    config.save_pretrained(raw)
    torch.save(
        {**model.state_dict(), "transformer.h.0.attn.masked_bias": torch.tensor(-1e4)}, raw / "pytorch_model.bin"
    )
    (raw / "tokenizer.json").write_text("{}")
    language.kogpt2(raw, target)
    assert SETS["kogpt2"].missing(target) == []
    assert not list(target.glob("*.bin"))
    again = GPT2LMHeadModel.from_pretrained(target, use_safetensors=True).eval()
    tokens = torch.tensor([[1, 5, 7]])
    assert torch.equal(model(tokens).logits, again(tokens).logits)
    assert json.loads((target / "tokenizer_config.json").read_text())["pad_token"] == "<pad>"


class Trap:
    """A pickle that would write a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


def test_code_in_the_weights_is_refused_and_not_run(raw: Path, target: Path) -> None:
    GPT2Config(vocab_size=20, n_positions=8, n_embd=8, n_layer=1, n_head=2).save_pretrained(raw)
    torch.save({"transformer.wte.weight": Trap(raw / "ran")}, raw / "pytorch_model.bin")
    with pytest.raises(pickle.UnpicklingError):
        language.kogpt2(raw, target)
    assert not (raw / "ran").exists()


def test_kogpt2s_tokenizer_gets_its_special_tokens(real: Path, raw: Path, target: Path) -> None:
    folder = need(real, "kogpt2_tokenizer")
    (raw / "tokenizer.json").write_bytes((folder / "tokenizer.json").read_bytes())
    language.kogpt2_tokenizer(raw, target)
    made, known = (AutoTokenizer.from_pretrained(path) for path in (target, folder))
    assert made.special_tokens_map == known.special_tokens_map
    text = "안녕하세요. 한국어 GPT-2 입니다.😤:)l^o"  # the example of SKT-AI/KoGPT2's README
    assert made(text)["input_ids"] == known(text)["input_ids"]


def as_llama2c(folder: Path, to: Path) -> None:
    """The model of a folder in llama2.c's own layout."""
    config = json.loads((folder / "config.json").read_text())
    weights = load_file(folder / "model.safetensors")
    layers, heads, kv_heads = (
        config[f"num_{what}"] for what in ("hidden_layers", "attention_heads", "key_value_heads")
    )
    kinds = ["input_layernorm", *(f"self_attn.{part}_proj" for part in "qkvo"), "post_attention_layernorm"]
    parts = [weights["model.embed_tokens.weight"]]
    for kind in [*kinds, "mlp.gate_proj", "mlp.down_proj", "mlp.up_proj"]:
        for layer in range(layers):
            weight = weights[f"model.layers.{layer}.{kind}.weight"]
            if kind.endswith(("q_proj", "k_proj")):
                rows, dim = weight.shape
                weight = weight.view(rows // config["head_dim"], 2, config["head_dim"] // 2, dim).transpose(1, 2)
            parts.append(weight)
    parts += [weights["model.norm.weight"], torch.zeros(2, config["max_position_embeddings"], config["head_dim"] // 2)]
    sizes = config["hidden_size"], config["intermediate_size"], layers, heads, kv_heads
    header = struct.pack("<7i", *sizes, config["vocab_size"], config["max_position_embeddings"])
    to.write_bytes(header + b"".join(part.contiguous().numpy().tobytes() for part in parts))


def as_tok512(folder: Path, to: Path) -> None:
    """The tokenizer of a folder in llama2.c's own layout."""
    content = struct.pack("<i", 7)
    for number, piece in enumerate(json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]):
        text = piece.replace("▁", " ").encode()
        content += struct.pack("<fi", -max(0, number - 259), len(text)) + text
    to.write_bytes(content)


def test_a_llama2c_checkpoint_becomes_the_model_that_tells_the_known_story(real: Path, raw: Path, target: Path) -> None:
    folder = need(real, "stories260k")
    (raw / "stories260K").mkdir()
    as_llama2c(folder, raw / "stories260K" / "stories260K.bin")
    as_tok512(folder, raw / "stories260K" / "tok512.bin")
    stories.stories260k(raw, target)
    made, known = load_file(target / "model.safetensors"), load_file(folder / "model.safetensors")
    assert made.keys() == known.keys()
    assert all(torch.equal(made[name], known[name]) for name in known)
    assert json.loads((target / "tokenizer.json").read_text()) == json.loads((folder / "tokenizer.json").read_text())

    model: Any = LlamaForCausalLM.from_pretrained(target)
    tokenizer: Any = AutoTokenizer.from_pretrained(target)
    with torch.no_grad():
        tokens = model.generate(torch.tensor([[1]]), max_new_tokens=30, do_sample=False)
    told = tokenizer.decode(tokens[0], skip_special_tokens=True)
    assert (folder / "greedy.txt").read_text().startswith(told)
    assert told.startswith("Once upon a time, there was a little girl named Lily")
