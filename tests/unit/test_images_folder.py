"""The user's own folder of pictures: looked at when it is submitted, split, trained; each mistake has its message."""

import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from jobs import artifact
from jobs.catalogue import Unfit, classifiers, find
from jobs.catalogue.images import ImageFolderParams
from jobs.errors import InputError
from jobs.images.folder import listing, prepare
from jobs.images.reading import read_picture
from jobs.problem import Problem, Signature
from jobs.spec import Answer, Failure, JobSpec, Outcome, Stopped, TrainResult
from jobs.tasks import image_folder
from tests.histories import without_seconds
from tests.training import content_of, row_of

MakeSpec = Callable[..., JobSpec]
TrainOne = Callable[..., Outcome]
MakeAlbum = Callable[..., Path]


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRIDYARD_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("GRIDYARD_DATA", str(tmp_path / "data"))


@pytest.fixture
def make_album(tmp_path: Path) -> MakeAlbum:
    """make_album({"rows": 5}): a folder with that many pictures for each class; odd classes are striped upright."""

    def make(counts: dict[str, int], root: str = "album") -> Path:
        noise = np.random.default_rng(0)
        for number, (name, count) in enumerate(counts.items()):
            (tmp_path / root / name).mkdir(parents=True, exist_ok=True)
            for picture in range(count):
                stripes = np.where(np.arange(16) % 4 < 2, 60, 200)[:, None] + noise.integers(-40, 40, (16, 16))
                pixels = (stripes.T if number % 2 else stripes).astype(np.uint8)
                Image.fromarray(pixels).save(tmp_path / root / name / f"{picture:03}.png")
        return tmp_path / root

    return make


def params(root: Path, **given: Any) -> dict[str, Any]:
    """As `prepare` gets them: defaults filled in."""
    return ImageFolderParams(data=str(root), **given).model_dump(mode="json")


def signature(size: int) -> Signature:
    return Signature(kind="image", input_shape=(3, size, size), classes=("a", "b"))


def built(spec: JobSpec) -> Problem:
    return row_of(spec).problem


class TestPrepare:
    def test_the_folder_is_fixed_with_its_fingerprint(self, make_album: MakeAlbum) -> None:
        root = make_album({"rows": 3, "columns": 4})

        found = prepare(params(root)).params

        assert found["data"] == str(root)
        assert re.fullmatch("[0-9a-f]{64}", found["fingerprint"])

    def test_classes_and_pictures_are_listed_in_order_and_other_files_are_told_of(self, make_album: MakeAlbum) -> None:
        root = make_album({"rows": 3, "columns": 4})
        (root / "rows" / "Thumbs.db").write_bytes(b"x")
        (root / "rows" / ".hidden.png").write_bytes(b"x")

        found = listing(root)

        assert found.classes == ("columns", "rows")
        assert found.labels == (0,) * 4 + (1,) * 3
        assert found.notes[0] == "pictures of each class: columns 4, rows 3"
        assert (
            found.notes[1] == "files left out, as they are no pictures in a class's folder: 1, such as rows/Thumbs.db"
        )

    @pytest.mark.parametrize(
        ("counts", "message"),
        [
            ({}, "it holds no folders; it needs a folder for each class"),
            ({".": 3}, "there are pictures in it, but no folders; it needs a folder for each class"),
            ({"cats": 0, "dogs": 0}, "no pictures in its folders cats, dogs; allowed are .jpg"),
            ({"cats": 5}, "has one class only, cats; two at least are needed"),
            ({"cats": 5, "dogs": 1}, "each class needs 3 pictures at least; dogs has 1"),
            ({"cats": 5, "dogs": 0}, "each class needs 3 pictures at least; dogs has 0"),
            ({"train/a": 1, "train/b": 3, "test/a": 2}, "each class needs 2 pictures to learn from at least; a has 1"),
            ({"train/a": 3, "train/b": 3, "test/c": 2}, "each class needs 2 pictures to learn from at least; c has 0"),
        ],
    )
    def test_a_folder_that_gives_nothing_to_learn_is_refused_in_words(
        self, make_album: MakeAlbum, counts: dict[str, int], message: str
    ) -> None:
        root = make_album({".": 0, **counts})

        with pytest.raises(Unfit, match=re.escape(message)):
            prepare(params(root))

    @pytest.mark.parametrize(
        ("content", "message"), [(b"", "is empty"), (b"GIF89", "is no picture"), (b"<html>", "is no picture")]
    )
    def test_a_file_that_is_no_picture_is_named(self, make_album: MakeAlbum, content: bytes, message: str) -> None:
        root = make_album({"rows": 3, "columns": 3})
        (root / "rows" / "bad.gif").write_bytes(content)

        with pytest.raises(Unfit, match=rf"bad\.gif {message}.*; replace or remove it"):
            prepare(params(root))

    def test_a_file_instead_of_a_folder_and_no_path_at_all_are_refused(self, make_album: MakeAlbum) -> None:
        root = make_album({"rows": 3, "columns": 3})

        with pytest.raises(Unfit, match=r"000\.png is a file; it needs a folder for each class"):
            prepare(params(root / "rows" / "000.png"))
        with pytest.raises(Unfit, match="is missing; give the path"):
            prepare(ImageFolderParams().model_dump())

    def test_a_file_of_weights_that_is_not_there_is_named(self, make_album: MakeAlbum) -> None:
        with pytest.raises(Unfit, match=r"gone\.safetensors"):
            prepare(params(make_album({"rows": 3, "columns": 3}), model="resnet18", pretrained="gone.safetensors"))

    def test_an_unknown_network_is_refused_with_the_nearest(self) -> None:
        with pytest.raises(ValueError, match="no network 'resnet81'; did you mean"):
            ImageFolderParams(model="resnet81")


class TestSplit:
    def test_each_class_is_split_60_20_20_and_has_a_picture_in_each_part(
        self, make_album: MakeAlbum, make_spec: MakeSpec
    ) -> None:
        root = make_album({"few": 3, "many": 20})

        problem = built(make_spec("image_folder", data=str(root), image_size=16))

        counts = [part.truth.bincount(minlength=2).tolist() for part in (problem.train, problem.val, problem.test)]
        assert counts == [[1, 12], [1, 4], [1, 4]]
        together = torch.cat([problem.train.rows, problem.val.rows, problem.test.rows])
        assert together.sort().values.tolist() == list(range(23))

    @pytest.mark.parametrize(
        ("given", "counts"),
        [
            ({"train": 10, "val": 3, "test": 4}, [20, 6, 8]),
            ({"train": 10, "test": 4}, [16, 4, 8]),
            ({"train": 10, "valid": 3}, [16, 6, 4]),
        ],
    )
    def test_parts_that_the_folders_give_are_kept_and_others_are_split_off(
        self, make_album: MakeAlbum, make_spec: MakeSpec, given: dict[str, int], counts: list[int]
    ) -> None:
        places = {f"{part}/{name}": count for part, count in given.items() for name in ("rows", "columns")}

        problem = built(make_spec("image_folder", data=str(make_album(places)), image_size=16))

        parts = {"train": problem.train, "val": problem.val, "test": problem.test}
        assert [len(part) for part in parts.values()] == counts
        if "test" in given:
            assert all(problem.names[row].startswith("test/") for row in problem.test.rows)
        assert all(problem.names[row].startswith("train/") for row in problem.train.rows)

    def test_the_split_follows_the_seed(self, make_album: MakeAlbum, make_spec: MakeSpec) -> None:
        facts = {"data": str(make_album({"rows": 20, "columns": 20})), "image_size": 16}
        first, again, other = (built(make_spec("image_folder", seed=seed, **facts)) for seed in (0, 0, 1))

        assert torch.equal(first.test.rows, again.test.rows)
        assert not torch.equal(first.test.rows, other.test.rows)


class TestTraining:
    def test_a_small_network_learns_stripes_and_reads_a_picture_as_it_learned_it(
        self, make_album: MakeAlbum, make_spec: MakeSpec, train_one: TrainOne
    ) -> None:
        root = make_album({"rows": 20, "columns": 20})
        spec = make_spec(
            "image_folder", data=str(root), image_size=16, gray=True, channels=[8, 8], epochs=6, batch_size=8, lr=0.01
        )

        result = train_one(spec)

        assert isinstance(result, TrainResult), result
        assert result.metrics["test_accuracy"] == 1
        assert set(result.metrics) >= {"test_f1", "test_roc_auc"}
        model = artifact.load(content_of(result))
        row = read_picture(root / "rows" / "003.png", model.signature)
        assert model.classes[int(model(row[None]).argmax())] == "rows"

    def test_a_resumed_job_equals_an_undisturbed_one_bit_for_bit(
        self, make_album: MakeAlbum, make_spec: MakeSpec, train_one: TrainOne
    ) -> None:
        """With augmentation, dropout and batch normalisation."""
        changes = {"flip": True, "rotation": 20.0, "translation": 0.2, "color": 0.2, "dropout": 0.3}
        root = make_album({"rows": 12, "columns": 12, "more": 12})
        spec = make_spec("image_folder", data=str(root), image_size=16, channels=[4, 8], batch_size=8, **changes)

        def stop_at_1(report: Any) -> Answer:
            return Answer.GIVE_BACK if report.epoch == 1 else Answer.GO_ON

        assert isinstance(train_one(spec, answer=stop_at_1), Stopped)
        resumed = train_one(spec, attempt=2)
        whole = train_one(replace(spec, sweep_uid="undisturbed"))

        assert isinstance(resumed, TrainResult), resumed
        assert isinstance(whole, TrainResult), whole
        assert (resumed.resumed_from, whole.resumed_from) == (1, 0)
        assert without_seconds(resumed.history) == without_seconds(whole.history)
        assert resumed.metrics == whole.metrics
        assert resumed.best == whole.best

    def test_a_picture_damaged_behind_its_head_fails_the_job_with_its_name(
        self, make_album: MakeAlbum, make_spec: MakeSpec, train_one: TrainOne
    ) -> None:
        root = make_album({"rows": 4, "columns": 4})
        picture = root / "rows" / "002.png"
        picture.write_bytes(picture.read_bytes()[:150])
        prepare(params(root))  # its head is whole

        outcome = train_one(make_spec("image_folder", data=str(root), image_size=16))

        assert isinstance(outcome, Failure)
        assert re.search(r"rows/002\.png: the picture is damaged .*; replace or remove it$", outcome.error)
        assert not outcome.again

    def test_a_folder_that_changed_since_submission_fails_the_job_with_its_name(
        self, make_album: MakeAlbum, make_spec: MakeSpec, train_one: TrainOne
    ) -> None:
        root = make_album({"rows": 4, "columns": 4})
        facts = prepare(params(root)).params
        os.replace(root / "rows" / "000.png", root / "columns" / "100.png")

        outcome = train_one(make_spec("image_folder", image_size=16, **facts))

        assert isinstance(outcome, Failure)
        assert outcome.error.startswith(f"{root} has changed since the sweep was submitted")

    def test_what_was_converted_is_noted(self, make_album: MakeAlbum, make_spec: MakeSpec) -> None:
        root = make_album({"rows": 4, "columns": 4})
        Image.new("CMYK", (9, 9)).save(root / "rows" / "print.jpg")
        frames = [Image.new("L", (9, 9), gray) for gray in (0, 255)]
        frames[0].save(root / "rows" / "film.gif", save_all=True, append_images=frames[1:])

        notes = built(make_spec("image_folder", data=str(root), image_size=16)).notes

        assert "pictures of mode CMYK, which were converted: 1" in notes
        assert "animations, of which the first frame is used: 1" in notes


class TestClassifiers:
    def test_the_catalogue_knows_all_of_torchvisions(self) -> None:
        from torchvision import models

        assert sorted(classifiers.NAMES) == sorted(models.list_models(module=models))

    @pytest.mark.parametrize("gray", [False, True])
    def test_resnet18_takes_the_weights_of_a_file_but_for_its_last_layer(
        self, make_album: MakeAlbum, make_spec: MakeSpec, tmp_path: Path, gray: bool
    ) -> None:
        from torchvision.models import resnet18

        root, other = make_album({"rows": 3, "columns": 3, "more": 3}), resnet18(num_classes=7)
        save_file(other.state_dict(), tmp_path / "weights.safetensors")
        facts = prepare(params(root, model="resnet18", pretrained=str(tmp_path / "weights.safetensors"))).params

        problem = built(make_spec("image_folder", model="resnet18", image_size=32, gray=gray, **facts))

        body = problem.model.net.body
        assert torch.equal(body.get_parameter("conv1.weight"), other.conv1.weight)
        assert body.fc.weight.shape == (3, 512)
        with torch.no_grad():
            assert problem.model(torch.zeros(2, 1 if gray else 3, 32, 32)).shape == (2, 3)

    def test_dropout_of_another_library_becomes_ours(self) -> None:
        net = image_folder.model(ImageFolderParams(model="mobilenet_v3_small", image_size=64), signature(64)).net

        assert not any(type(module) is torch.nn.Dropout for module in net.modules())
        assert [module.get_buffer("p").item() for module in net.modules() if type(module).__name__ == "Dropout"] == [
            pytest.approx(0.2)
        ]

    @pytest.mark.parametrize(
        ("state", "message"),
        [
            ({"layer.weight": torch.zeros(2)}, "the weights are those of another network"),
            ([1, 2], "is no state_dict of tensors"),
        ],
    )
    def test_a_file_of_other_weights_is_refused_in_words(
        self, make_album: MakeAlbum, make_spec: MakeSpec, tmp_path: Path, state: Any, message: str
    ) -> None:
        torch.save(state, tmp_path / "weights.pth")
        facts = {"data": str(make_album({"a": 3, "b": 3})), "pretrained": str(tmp_path / "weights.pth")}

        with pytest.raises(InputError, match=rf"weights\.pth: {message}"):
            built(make_spec("image_folder", model="resnet18", image_size=32, **facts))

    def test_a_file_that_would_run_code_is_refused(
        self, make_album: MakeAlbum, make_spec: MakeSpec, tmp_path: Path
    ) -> None:
        torch.save(torch.nn.Linear(1, 1), tmp_path / "module.pth")
        facts = {"data": str(make_album({"a": 3, "b": 3})), "pretrained": str(tmp_path / "module.pth")}

        with pytest.raises(InputError, match=r"module\.pth: cannot be read as weights only"):
            built(make_spec("image_folder", model="resnet18", image_size=32, **facts))

    def test_pictures_too_small_for_a_network_are_refused_in_words(self) -> None:
        with pytest.raises(InputError, match=r"alexnet cannot take pictures of 16 px: .*Try another image_size"):
            image_folder.model(ImageFolderParams(model="alexnet", image_size=16), signature(16))

    def test_pretrained_weights_of_our_own_small_network_are_refused(
        self, make_album: MakeAlbum, make_spec: MakeSpec
    ) -> None:
        with pytest.raises(InputError, match="pretrained is for torchvision's classifiers"):
            built(make_spec("image_folder", data=str(make_album({"a": 3, "b": 3})), pretrained="hub", image_size=16))


def test_what_prepare_reads_is_the_same_for_all_cells() -> None:
    assert set(find("image_folder").fixed_only) <= set(ImageFolderParams.model_fields)
