"""MNIST and cats and dogs: their networks, their splits, their files."""

import gzip
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from jobs.catalogue.images import CatsDogsParams, MnistParams
from jobs.errors import InputError
from jobs.images import problem
from jobs.images.problem import Feed, Pictures
from jobs.problem import Signature
from jobs.splits import cut, shares
from jobs.tasks import cats_dogs, mnist

PACKED = gzip.compress(b"x" * 999, mtime=0)  # its head is 10 bytes long
IDX = b"\0\0\x08\x01"  # how a file in MNIST's own format with one dimension begins
REAL = Path(os.environ.get("GRIDYARD_DATA") or Path(__file__).parents[2].parent / "shared" / "data")


@pytest.fixture
def real_mnist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not (REAL / "mnist" / "MNIST").is_dir():
        pytest.skip(f"no real data: there is no folder {REAL / 'mnist'}; GRIDYARD_DATA names another")
    monkeypatch.setenv("GRIDYARD_DATA", str(REAL))
    monkeypatch.setenv("GRIDYARD_CACHE", str(tmp_path))
    mnist.digits.cache_clear()


def photo(size: int) -> Signature:
    return Signature(kind="image", input_shape=(3, size, size), classes=("cat", "dog"))


def weights(net: nn.Module) -> int:
    return sum(weight.numel() for weight in net.parameters())


@pytest.mark.parametrize(
    ("params", "count"),
    [
        (MnistParams(), 784 * 500 + 500 + 500 * 10 + 10),  # 397,510
        (MnistParams(hidden=[64, 64]), 784 * 64 + 64 + 64 * 64 + 64 + 64 * 10 + 10),
        (MnistParams(model="cnn", hidden=[128]), 160 + 16 * 32 * 9 + 32 + 32 * 49 * 128 + 128 + 128 * 10 + 10),
    ],
)
def test_the_networks_of_mnist_have_the_weights_that_their_sizes_say(params: MnistParams, count: int) -> None:
    assert weights(mnist.model(params, mnist.SIGNATURE).net) == count


@pytest.mark.parametrize(("size", "side"), [(180, 11), (64, 4)])
def test_cats_and_dogs_has_five_convolutions_four_poolings_and_one_linear_layer(size: int, side: int) -> None:
    net = cats_dogs.model(CatsDogsParams(image_size=size), photo(size)).net
    assert isinstance(net, nn.Sequential)

    convolutions = [layer for layer in net if isinstance(layer, nn.Conv2d)]
    assert [layer.out_channels for layer in convolutions] == [32, 64, 128, 256, 256]
    assert all(layer.kernel_size == (3, 3) and layer.padding == "same" for layer in convolutions)
    assert sum(isinstance(layer, nn.MaxPool2d) for layer in net) == 4
    assert [(layer.in_features, layer.out_features) for layer in net if isinstance(layer, nn.Linear)] == [
        (256 * side * side, 1)
    ]


def test_raw_pixels_give_a_logit_for_each_class() -> None:
    model = cats_dogs.model(CatsDogsParams(image_size=32), photo(32)).eval()

    assert model(np.zeros((2, 3, 32, 32), np.uint8)).shape == (2, 2)


def test_a_picture_too_small_for_the_poolings_is_refused_in_words() -> None:
    with pytest.raises(InputError, match="image_size 16 is too small for 5 poolings; it must be 32 or more"):
        cats_dogs.model(CatsDogsParams(image_size=16, channels=[1] * 6), photo(16))


def test_batch_norm_of_single_rows_is_refused_in_words() -> None:
    with pytest.raises(InputError, match="batch_norm needs batches of at least two rows; given batch_size 1"):
        mnist.model(MnistParams(batch_norm=True, batch_size=1), mnist.SIGNATURE)


def some(pixels: np.ndarray) -> Pictures:
    return Pictures(pixels=pixels, labels=np.zeros(len(pixels), np.int64), classes=("a", "b"), fingerprint="")


def test_a_feed_gives_the_pictures_of_its_rows_from_minus_one_to_one() -> None:
    pixels = np.arange(3 * 2 * 2 * 3, dtype=np.uint8).reshape(3, 2, 2, 3) * 7

    fed = Feed(some(pixels))(torch.tensor([2, 0]))

    assert fed.shape == (2, 3, 2, 2)
    assert torch.allclose(fed[1], torch.from_numpy(pixels[0]).permute(2, 0, 1) / 127.5 - 1)
    assert -1 <= fed.min() < fed.max() <= 1


def test_all_jobs_of_a_device_share_one_copy_of_the_pictures_which_goes_with_the_last_of_them() -> None:
    pictures, device = some(np.zeros((3, 2, 2, 3), np.uint8)), torch.device("meta")

    first, second = Feed(pictures).to(device), Feed(pictures).to(device)

    assert first.pixels is second.pixels
    assert first.pixels.device == device
    del first
    assert list(pictures.copies) == [device]
    second.to("cpu")
    assert len(pictures.copies) == 0
    assert np.shares_memory(second.pixels.numpy(), pictures.pixels)


def test_pictures_that_do_not_fit_on_a_device_stay_where_they_are_mapped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(problem, "MOST_ON_DEVICE", 35)
    pictures = some(np.zeros((3, 2, 2, 3), np.uint8))

    assert Feed(pictures).to("meta").pixels.device == torch.device("cpu")


def test_shares_are_exact_together_and_fair_to_each() -> None:
    counts = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]

    taken = shares(counts, 10_000 / 60_000)

    assert sum(taken) == 10_000
    assert all(abs(share - count / 6) <= 1 for share, count in zip(taken, counts, strict=True))


def test_groups_are_cut_at_their_own_places() -> None:
    first, second = cut([torch.arange(5), torch.arange(10, 14)], [(2,), (1,)])

    assert (first.tolist(), second.tolist()) == ([0, 1, 10], [2, 3, 4, 11, 12, 13])


class TestFiles:
    @pytest.mark.parametrize(
        "packed", [PACKED[:20], PACKED[:10] + b"\xff" + PACKED[11:], PACKED[10:]], ids=["cut", "changed", "headless"]
    )
    def test_a_damaged_file_of_mnist_is_named_with_what_to_do(self, tmp_path: Path, packed: bytes) -> None:
        raw = tmp_path / "MNIST" / "raw"
        raw.mkdir(parents=True)
        (raw / "train-images-idx3-ubyte.gz").write_bytes(packed)

        with pytest.raises(InputError, match=r"train-images-idx3-ubyte\.gz: cannot be read.*gridyard data get mnist"):
            mnist.digits(tmp_path)

    @pytest.mark.parametrize("content", [b"", IDX, IDX + b"\0\0", IDX + b"\0\0\0\x05abc", b"\0\0\x08\x02\0\0\0\x03abc"])
    def test_what_is_not_in_mnists_format_is_refused(self, tmp_path: Path, content: bytes) -> None:
        with pytest.raises(InputError, match="a file is damaged"):
            mnist.idx(content, tmp_path, 1)

    def test_too_few_photos_are_counted(self, tmp_path: Path) -> None:
        (tmp_path / "train").mkdir()
        Image.new("RGB", (9, 9)).save(tmp_path / "train" / "cat.1.jpg")

        with pytest.raises(InputError, match=r"1 photos named cat\.N\.jpg; more than 1500 are needed"):
            cats_dogs.photos(tmp_path, 32)


def test_mnist_validates_on_10000_of_its_training_rows_and_tests_on_the_official_ones(real_mnist: None) -> None:
    first, again, other = (mnist.build(MnistParams(), seed) for seed in (0, 0, 1))

    assert (len(first.train), len(first.val), len(first.test)) == (50_000, 10_000, 10_000)
    assert torch.cat([first.train.rows, first.val.rows]).sort().values.equal(torch.arange(60_000))
    assert first.test.rows.equal(torch.arange(60_000, 70_000))
    share = first.val.truth.bincount() / torch.cat([first.train.truth, first.val.truth]).bincount()
    assert torch.allclose(share, torch.tensor(1 / 6), atol=2e-4)
    assert first.val.rows.equal(again.val.rows)
    assert not first.val.rows.equal(other.val.rows)
