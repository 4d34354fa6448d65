"""A language model continues prompts from the command line, and says what is wrong with them."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from typer.testing import CliRunner, Result

from gridyard import cli
from gridyard.client import Yard
from gridyard.job import Job
from jobs.errors import InputError
from tests.trained import trained, yard_at

LETTERS = "abcdefghijklmnopqrstuvwxyz .\n"


@pytest.fixture(scope="module")
def yard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Yard]:
    """Job 1 is a language model of letters that has hardly learned anything."""
    home = tmp_path_factory.mktemp("yard")
    tokenizer = Tokenizer(models.WordLevel({letter: number for number, letter in enumerate(LETTERS)}, unk_token="."))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.decoder = decoders.Fuse()
    (home / "letters").mkdir()
    tokenizer.save(str(home / "letters/tokenizer.json"))
    (home / "text.txt").write_text("the cat sat on the mat.\n" * 100)
    yard = yard_at(home)
    tiny = {"layers": 1, "heads": 1, "width": 8, "context": 32, "max_length": 20, "prompts": ["the"]}
    places = {"data": str(home / "text.txt"), "tokenizer": str(home / "letters")}
    trained(yard, task="causal_lm", fixed={**places, **tiny}, epochs=1)
    yield yard
    yard.database.close()


@pytest.fixture
def writer(yard: Yard) -> Job:
    return yard.job(1)


def command(yard: Yard, *words: str, stdin: str = "") -> Result:
    runner = CliRunner(env={"GRIDYARD_STORE": yard.overrides["store"]})
    return runner.invoke(cli.app, ["predict", "1", *words, "--db", yard.overrides["db"]], input=stdin)


def test_a_prompt_is_continued_and_printed_as_it_is(yard: Yard, writer: Job) -> None:
    (found,) = writer.predict("the cat")
    assert found["input"] == "the cat"
    answer = command(yard, "the cat")
    assert answer.stdout == found["text"] + "\n"
    assert json.loads(command(yard, "the cat", "--json").stdout) == [found]


def test_a_seed_gives_the_same_text_and_settings_change_it(writer: Job) -> None:
    first, again, other = (writer.predict("the", seed=seed)[0]["text"] for seed in (1, 1, 2))
    assert first == again != other
    assert len(writer.predict("the", max_length=5)[0]["text"]) < len(first)


def test_prompts_come_from_stdin_and_from_a_file_with_one_per_line(yard: Yard, tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text("the\n\na cat\n")
    found = json.loads(command(yard, "--prompts", str(tmp_path / "prompts.txt"), "--json").stdout)
    assert [one["input"] for one in found] == ["the", "a cat"]
    (found,) = json.loads(command(yard, "-", "--json", stdin="a cat\n").stdout)
    assert found["input"] == "a cat"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "a prompt is missing; give it in quotes"),
        (["the", "--prompts", "prompts.txt"], "a prompt and --prompts are both given"),
        (["--prompts", "nothing.txt"], "nothing.txt: cannot be read as UTF-8 text: .*No such file"),
        (["the", "--temperature", "-1"], "^temperature was given -1; allowed is a number from 0 to 100$"),
        (["the", "--top-p", "2"], "^top_p was given 2; allowed is a number, above 0 and at most 1$"),
        (["the", "--max-length", "1000"], "max_length 1000 is more than the 32 tokens that the model sees"),
        (
            ["the cat sat on the mat"],
            'the prompt "the cat sat on the mat" has 22 tokens, which leaves none of max_length 20',
        ),
        (["the", "--top", "3"], "--top: this model writes texts; it has no classes"),
    ],
)
def test_a_mistake_with_a_prompt_is_said_in_one_message(yard: Yard, words: list[str], message: str) -> None:
    answer = command(yard, *words)
    with pytest.raises(InputError, match=message):
        raise answer.exception or AssertionError(answer.stdout)
    assert answer.stdout == ""


def test_a_language_model_repeats_with_its_texts_bit_for_bit(writer: Job) -> None:
    found = writer.repeat()
    assert (found.equal, found.texts, found.weights) == (True, True, True)


def test_a_language_model_is_exported_as_safetensors_with_its_card(writer: Job, tmp_path: Path) -> None:
    done = writer.export(tmp_path / "out")
    assert sorted(done.files) == ["README.md", "model.safetensors"]
    assert "model.onnx and model.pt2 left out: a language model writes in a loop" in done.notes[0]
    assert "Once upon a time" in (tmp_path / "out/README.md").read_text()
