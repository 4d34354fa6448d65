"""The tasks on texts: what they write and learn, their files, and what they say of wrong input."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional
from transformers import AutoModelForCausalLM

from jobs import artifact, tasks
from jobs.catalogue import Unfit
from jobs.catalogue.language import KoGpt2Params
from jobs.errors import CheckpointDamaged, InputError
from jobs.language import models, networks, places, prepare_text, prepare_writing
from jobs.language.networks import Causal
from jobs.layers import Dropout
from jobs.problem import Problem, Writing
from jobs.spec import Answer, JobSpec, Outcome, Stopped, TrainResult
from tests.training import alone, row_of
from tests.unit.language import TEXT, write_folder, write_model, write_tokenizer

MakeSpec = Callable[..., JobSpec]
TrainOne = Callable[..., Outcome]
REAL = Path(os.environ.get("GRIDYARD_DATA") or Path(__file__).parents[3] / "shared/data")
SMALL = {"context": 8, "batch_size": 64, "width": 8, "layers": 1, "heads": 2, "max_length": 8, "lr": 0.01}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with a text, `text.txt`, and a tiny language model with its tokenizer, `model`."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "text.txt").write_text(TEXT)
    write_folder(folder / "model")
    return folder


@pytest.fixture(autouse=True)
def data(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GRIDYARD_DATA", str(made))
    monkeypatch.setenv("GRIDYARD_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return made


def building(task: str, **given: Any) -> Any:
    module, params = tasks.load(task, given)
    return module.build(params, 0)


def writing(**given: Any) -> tuple[dict[str, float], list[dict[str, Any]]]:
    """What a job of kogpt2 writes: metrics but the speed, and texts without their times."""
    built = building("kogpt2", **{"model": "model", "prompts": ["the cat"], "max_length": 24, **given})
    assert isinstance(built, Writing)
    metrics, texts = built.write(torch.device("cpu"))
    assert metrics.pop("tokens_per_second") > 0
    return metrics, [{name: value for name, value in text.items() if name != "seconds"} for text in texts]


def learner(**given: Any) -> dict[str, Any]:
    return {"data": "text.txt", "tokenizer": "model", **SMALL, **given}


class TestWriting:
    def test_greedy_texts_are_those_of_a_plain_loop_over_the_likeliest_token(self, data: Path) -> None:
        net = AutoModelForCausalLM.from_pretrained(data / "model").eval()
        tokenizer = models.found(data / "model", data / "model").tokenizer
        tokens = tokenizer.tokens("the cat")
        with torch.inference_mode():
            while len(tokens) < 24 and (tokens[-1] != 0):
                tokens.append(int(net(torch.tensor([tokens])).logits[0, -1].argmax()))

        _, (text,) = writing(temperature=0.0)

        assert text["text"] == tokenizer.text(tokens)
        assert text["text"].startswith("the cat")

    def test_the_same_seed_writes_the_same_and_another_seed_another_text(self) -> None:
        built = building("kogpt2", model="model", prompts=["the cat", "a dog"], max_length=24)
        first, again = built.model.write(["the cat", "a dog"], seed=1), built.model.write(["the cat", "a dog"], seed=1)
        assert first == again
        assert first != built.model.write(["the cat", "a dog"], seed=2)
        assert built.model.write(["the cat"], seed=1) == first[:1]  # whatever is written beside it

    def test_writing_leaves_torchs_stream_as_it_was(self) -> None:
        torch.manual_seed(3)
        before = torch.get_rng_state()
        writing()
        assert torch.equal(before, torch.get_rng_state())

    def test_losses_are_those_of_the_new_tokens_under_the_model_itself(self, data: Path) -> None:
        writer = building("kogpt2", model="model", prompts=["the"], max_length=24).model.writer
        settings = KoGpt2Params(max_length=24, temperature=0.5, top_k=5)
        (text,) = writer.write(["the cat"], settings, 0)
        given = writer.tokenizer.tokens("the cat")
        whole = torch.tensor([given + text.new])
        with torch.inference_mode():
            logits = AutoModelForCausalLM.from_pretrained(data / "model").eval()(whole).logits[0, :-1]
        losses = functional.cross_entropy(logits, whole[0, 1:], reduction="none")[len(given) - 1 :]
        assert text.losses[: len(losses)].tolist() == pytest.approx(losses.tolist(), rel=1e-4)
        assert text.perplexity == pytest.approx(float(text.losses.mean().exp()))

    def test_max_length_counts_the_prompt(self) -> None:
        _, (text,) = writing(prompts=["the cat sat"], max_length=20, repetition_penalty=1.3)
        tokenizer = models.found(places.folder("model", "model"), places.folder("model", "model")).tokenizer
        assert text["new_tokens"] <= 20 - len(tokenizer.tokens("the cat sat"))

    def test_a_high_repetition_penalty_repeats_less_than_none(self) -> None:
        assert (
            writing(temperature=0.0, repetition_penalty=50.0)[0]["distinct_1"]
            > writing(temperature=0.0)[0]["distinct_1"]
        )

    def test_an_empty_prompt_begins_with_the_token_that_begins_a_text(self) -> None:
        _, (text,) = writing(prompts=[""])
        assert text["new_tokens"] > 0

    def test_a_job_ranks_its_texts_and_keeps_them(self, make_spec: MakeSpec, train_one: TrainOne) -> None:
        spec = make_spec("kogpt2", epochs=1, model="model", prompts=["the cat", "a dog"], max_length=16)
        result = train_one(spec)
        assert isinstance(result, TrainResult)
        assert result.score == result.metrics["val_distinct_2"]
        assert [text["prompt"] for text in result.samples] == ["the cat", "a dog"]

    def test_its_file_holds_no_weights_and_writes_the_same_again(
        self, make_spec: MakeSpec, train_one: TrainOne
    ) -> None:
        spec = make_spec("kogpt2", epochs=1, model="model", prompts=["the cat"], max_length=16, seed=4)
        result = train_one(spec)
        assert isinstance(result, TrainResult)
        assert result.best is not None
        assert result.best.content is not None
        model = artifact.load(result.best.content)
        assert model.signature.kind == "text"
        assert not model.state_dict()
        assert isinstance(model, models.TextModel)
        assert model.write(["the cat"], seed=4) == [result.samples[0]["text"]]
        assert model([[1, 2, 3]]).shape == (1, 3, 300)

    def test_a_file_whose_model_has_changed_says_so(self, made: Path, tmp_path: Path) -> None:
        built = building("kogpt2", model=str(write_folder(tmp_path / "other")), prompts=["the"], max_length=24)
        write_model(tmp_path / "other", dropout=0.2)
        again = tasks.load("kogpt2", {})[0].model(KoGpt2Params(), built.model.signature)
        with pytest.raises(InputError, match="is not the model that the job wrote with"):
            again.write(["the"])  # type: ignore[operator]


class TestWrongWriting:
    @pytest.mark.parametrize(
        ("given", "message"),
        [
            ({"fingerprint": "0" * 64}, "have changed since the sweep was submitted; submit again"),
            ({"max_length": 33}, "max_length 33 is more than the 32 tokens that the model sees"),
            ({"prompts": ["the cat " * 20], "max_length": 30}, r"leaves none of max_length 30 to write; raise"),
            ({"model": "nobody/nothing"}, r'model "nobody/nothing" is neither a folder .* put config.json, model'),
        ],
    )
    def test_a_job_that_cannot_write_says_why(self, given: dict[str, Any], message: str) -> None:
        with pytest.raises(InputError, match=message):
            writing(**given)

    def test_an_empty_prompt_without_a_token_to_begin_with_is_refused(self, tmp_path: Path) -> None:
        write_tokenizer(tmp_path / "plain", unk_token="</s>")
        module, params = tasks.load("causal_lm", learner(tokenizer=str(tmp_path / "plain"), prompts=[""]))
        with pytest.raises(InputError, match="a prompt is empty, and the tokenizer has no token to begin"):
            module.build(params, 0)

    def test_a_wrong_setting_of_write_names_those_there_are(self) -> None:
        model = building("kogpt2", model="model", prompts=["the"], max_length=24).model
        with pytest.raises(InputError, match=r"heat: .*There are temperature, top_k"):
            model.write(["the"], heat=2)

    def test_submission_refuses_a_folder_without_weights_or_with_pickled_ones(self, tmp_path: Path) -> None:
        params = KoGpt2Params().model_dump() | {"model": str(tmp_path / "m")}
        write_tokenizer(tmp_path / "m")
        with pytest.raises(Unfit, match=r"has no config\.json"):
            prepare_writing.prepare(params)
        (tmp_path / "m/config.json").write_text("{}")
        (tmp_path / "m/pytorch_model.bin").write_bytes(b"")
        with pytest.raises(Unfit, match=r"weights as pickle .* are not read"):
            prepare_writing.prepare(params)

    def test_submission_refuses_a_tokenizer_of_another_model(self, tmp_path: Path) -> None:
        write_tokenizer(tmp_path / "large", size=320)
        params = KoGpt2Params().model_dump() | {"model": "model", "tokenizer": str(tmp_path / "large")}
        with pytest.raises(Unfit, match="the tokenizer has 320 tokens, and the model knows 300"):
            prepare_writing.prepare(params)

    def test_submission_keeps_a_folder_relative_to_the_data_folder_and_a_name_as_it_is(self, made: Path) -> None:
        params = KoGpt2Params().model_dump()
        fixed = prepare_writing.prepare(params | {"model": str(made / "model")}).params
        assert fixed == {"model": "model", "fingerprint": places.fingerprint(made / "model", made / "model")}
        assert prepare_writing.prepare(params).params == {"model": "skt/kogpt2-base-v2"}


class TestLearning:
    def test_a_small_gpt2_learns_and_its_file_is_complete(
        self, make_spec: MakeSpec, train_one: TrainOne, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        result = train_one(make_spec("causal_lm", epochs=3, **learner(prompts=["the"])))
        assert isinstance(result, TrainResult)
        assert result.metrics["test_perplexity"] < 100 < 300  # a third of the uniform one's
        assert any("by the tokens' frequencies alone" in note for note in result.environment["notes"])
        assert result.best is not None
        assert result.best.content is not None
        monkeypatch.setenv("GRIDYARD_DATA", str(tmp_path / "nowhere"))
        model = artifact.load(result.best.content)
        assert isinstance(model, models.TextModel)
        assert model.write(["the"], seed=0) == [text["text"] for text in result.samples]

    def test_an_interrupted_training_ends_with_the_same_numbers(self, make_spec: MakeSpec, train_one: TrainOne) -> None:
        spec = make_spec("causal_lm", epochs=2, **learner(model="model", tokenizer=None, dropout=0.3))
        whole = train_one(spec)
        assert isinstance(train_one(spec, attempt=2, answer=lambda _: Answer.GIVE_BACK), Stopped)
        resumed = train_one(spec, attempt=3)
        assert isinstance(whole, TrainResult)
        assert isinstance(resumed, TrainResult)
        assert resumed.resumed_from == 1
        assert resumed.metrics == whole.metrics
        assert resumed.best == whole.best

    def test_fine_tuning_starts_from_the_pretrained_weights_and_gets_better(self, make_spec: MakeSpec) -> None:
        spec = make_spec("causal_lm", epochs=1, **learner(model="model", tokenizer=None, dropout=0.0))
        row = row_of(spec)
        pack = alone(row)
        plain = AutoModelForCausalLM.from_pretrained(places.folder("model", "model")).eval()
        tokens = row.problem.val.inputs.long()
        with torch.inference_mode():
            logits = plain(tokens).logits
        untuned = functional.cross_entropy(logits.flatten(0, 1), row.problem.val.targets.flatten().long())
        assert pack.evaluate("val")["loss"].item() == pytest.approx(float(untuned), rel=1e-4)
        assert pack.advance()[0].metrics["val_loss"] < float(untuned) - 0.5

    def test_the_loss_in_parts_is_that_of_all_logits_at_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        problem = building("causal_lm", **learner())
        assert isinstance(problem, Problem)
        net = problem.model.net.eval()
        assert isinstance(net, Causal)
        inputs, targets = problem.val.inputs[:4], problem.val.targets[:4].long()
        whole = functional.cross_entropy(net.logits(inputs).flatten(0, 1), targets.flatten(), reduction="none")
        monkeypatch.setattr(networks, "MOST_LOGITS", 3 * 300)
        found = problem.loss(net(inputs), targets)
        assert found.shape == (4, 8)
        assert torch.allclose(found.flatten(), whole, atol=1e-5)

    def test_shared_weights_are_kept_once_and_are_shared_again_when_loaded(self) -> None:
        problem = building("causal_lm", **learner())
        net = problem.model.net
        assert sum("wte" in name or "lm_head" in name for name in net.state_dict()) == 1
        other = building("causal_lm", **learner()).model.net
        for weight in other.parameters():
            weight.data.zero_()
        other.load_state_dict(net.state_dict())
        assert other.lm.lm_head.weight is other.lm.transformer.wte.weight
        assert torch.equal(other.lm.lm_head.weight, net.lm.lm_head.weight)

    def test_all_dropout_follows_from_the_step_s_key(self) -> None:
        net = building("causal_lm", **learner(model="model", tokenizer=None, dropout=0.2)).model.net
        rates = [float(module.p) for module in net.modules() if isinstance(module, (Dropout, torch.nn.Dropout))]
        assert sorted(set(rates)) == [0.0, pytest.approx(0.2)]  # none in attention
        assert not any(isinstance(module, torch.nn.Dropout) and module.p > 0 for module in net.modules())

    def test_a_file_whose_config_names_code_to_fetch_runs_none_of_it(self, made: Path) -> None:
        problem = building("causal_lm", **learner())
        module, params = tasks.load("causal_lm", learner())
        about = problem.model.signature.about
        tampered = {**about, "config": {**about["config"], "auto_map": {"AutoModelForCausalLM": "evil/code--m.Evil"}}}
        assert isinstance(module.model(params, replace(problem.model.signature, about=tampered)), models.TrainedText)
        for config in ({"model_type": "vit", "auto_map": {"AutoModelForCausalLM": "evil/code--m.Evil"}}, {}):
            with pytest.raises(CheckpointDamaged, match="describes no causal language model"):
                module.model(params, replace(problem.model.signature, about={**about, "config": config}))

    def test_without_prompts_it_writes_on_from_the_validation_part(self) -> None:
        problem = building("causal_lm", **learner(max_length=12))
        assert problem.write is not None
        (text,) = problem.write()
        assert text["prompt"]
        assert text["prompt"] in TEXT[len(TEXT) // 2 :]


class TestWrongLearning:
    @pytest.mark.parametrize(
        ("given", "message"),
        [
            ({"width": 10, "heads": 3}, "width 10 cannot be shared by 3 heads"),
            ({"context": 5000}, r"the train part .* tokens, fewer than context \+ 1 = 5001"),
            ({"context": 33, "model": "model"}, "context 33 is more than the 32 tokens that the model sees"),
            ({"prompts": ["the cat sat on the mat"] * 2, "max_length": 4}, "leaves none of max_length 4 to write"),
            ({"fingerprint": "0" * 64}, "has changed since the sweep was submitted"),
            ({"tokenizer": None}, "a new GPT-2 needs a tokenizer"),
        ],
    )
    def test_a_job_that_cannot_learn_says_why(self, given: dict[str, Any], message: str) -> None:
        with pytest.raises(InputError, match=message):
            building("causal_lm", **learner(**given))

    @pytest.mark.parametrize(
        ("given", "param", "message"),
        [
            ({"data": None}, "data", "is missing"),
            ({"data": "nothing.txt"}, "data", "there is neither"),
            ({"data": "model"}, "data", "is a folder; give one text file"),
            ({"data": "model/model.safetensors"}, "data", "is not UTF-8"),
            ({"tokenizer": None}, "tokenizer", "is missing; a new GPT-2 needs a tokenizer"),
            ({"tokenizer": "empty"}, "tokenizer", "has no tokenizer.json"),
            ({"tokenizer": "n" * 999}, "tokenizer", "can be no folder"),
            ({"tokenizer": "./nowhere"}, "tokenizer", "there is neither"),
        ],
    )
    def test_submission_says_which_parameter_is_wrong(
        self, made: Path, given: dict[str, Any], param: str, message: str
    ) -> None:
        (made / "empty").mkdir(exist_ok=True)
        with pytest.raises(Unfit, match=message) as raised:
            prepare_text.prepare({"model": None, **learner(**given)})
        assert raised.value.param == param

    def test_submission_fixes_the_fingerprint(self, made: Path) -> None:
        fixed = prepare_text.prepare({"model": None, **learner(data=str(made / "text.txt"))}).params
        assert fixed["data"] == "text.txt"
        assert len(fixed["fingerprint"]) == 64


needs_stories = pytest.mark.skipif(not (REAL / "stories260k-hf").is_dir(), reason="stories260k-hf is not here")
needs_kogpt2 = pytest.mark.skipif(not (REAL / "kogpt2-tokenizer").is_dir(), reason="kogpt2-tokenizer is not here")


@needs_stories
def test_stories260k_writes_greedily_what_its_author_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRIDYARD_DATA", str(REAL))
    _, (text,) = writing(model="stories260k", prompts=[""], temperature=0.0, max_length=257)
    assert text["text"] == (REAL / "stories260k-hf/greedy.txt").read_text()
    assert text["new_tokens"] == 256


@needs_kogpt2
def test_the_way_of_kogpt2_works_with_random_weights_of_its_shape(tmp_path: Path) -> None:
    folder = tmp_path / "kogpt2"
    folder.mkdir()
    for file in (REAL / "kogpt2-tokenizer").iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    write_model(folder, size=51_200)
    _, texts = writing(model=str(folder), prompts=["근육이 커지기 위해서는", "안녕하세요"], max_length=16)
    assert texts[0]["text"].startswith("근육이 커지기 위해서는")
    assert texts[1]["text"].startswith("안녕하세요")
