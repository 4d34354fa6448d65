"""Picture files of every kind become pixels; what is damaged is named."""

import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageOps

from jobs.data import places
from jobs.errors import InputError
from jobs.images import decode
from jobs.images.decode import decoded, load, squeezed
from jobs.images.reading import read_picture
from jobs.problem import Signature

RED, WHITE = (255, 0, 0), (255, 255, 255)
PHOTO = Signature(kind="image", input_shape=(3, 8, 8), classes=("a", "b"))


def content(image: Image.Image, kind: str = "png", **options: object) -> bytes:
    buffer = BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("image", "kind"),
    [
        (Image.new("RGB", (9, 5), RED), "png"),
        (Image.new("RGBA", (9, 5), (*RED, 255)), "png"),
        (Image.new("RGB", (9, 5), RED).convert("P"), "gif"),
        (Image.new("RGB", (9, 5), RED), "bmp"),
        (Image.new("CMYK", (9, 5), (0, 255, 255, 0)), "jpeg"),
        (Image.new("RGB", (9, 5), RED), "webp"),
    ],
    ids=["RGB", "RGBA", "palette", "BMP", "CMYK", "WebP"],
)
def test_a_picture_of_every_mode_and_format_becomes_rgb(image: Image.Image, kind: str) -> None:
    pixels = np.asarray(load(content(image, kind), channels=3)).reshape(-1, 3)

    assert len(pixels) == 45
    assert np.abs(pixels.astype(int) - RED).max() <= 4  # JPEG and WebP change colours a little


def test_what_is_transparent_becomes_white() -> None:
    assert load(content(Image.new("RGBA", (2, 2), (*RED, 0))), channels=3).getpixel((0, 0)) == WHITE


def test_sixteen_bits_become_eight() -> None:
    deep = Image.fromarray(np.array([[0, 257 * 100, 65535]], np.uint16))

    assert np.asarray(load(content(deep), channels=1)).tolist() == [[0, 100, 255]]


def test_a_photo_taken_with_the_camera_turned_is_put_upright() -> None:
    image = Image.new("RGB", (4, 2), WHITE)
    image.putpixel((0, 0), RED)
    exif = image.getexif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise

    upright = load(content(image, exif=exif), channels=3)

    assert upright.size == (2, 4)
    assert upright.getpixel((1, 0)) == RED


@pytest.mark.parametrize("turn", range(1, 9))
def test_all_ways_to_hold_a_camera_are_read_as_pillow_reads_them(turn: int) -> None:
    image = Image.fromarray(np.arange(6, dtype=np.uint8).reshape(2, 3) * 40)
    exif = image.getexif()
    exif[ExifTags.Base.Orientation] = turn

    given = content(image, exif=exif)

    with Image.open(BytesIO(given)) as opened:
        right = ImageOps.exif_transpose(opened)
    found = load(given, channels=1)
    assert (found.size, found.tobytes()) == (right.size, right.tobytes())


def with_maker(turn: int, at: int, value: int) -> bytes:
    """A JPEG of 16 x 8 pixels whose EXIF names the camera's maker, with one byte of the EXIF exchanged."""
    image = Image.new("RGB", (16, 8), RED)
    exif = image.getexif()
    exif[ExifTags.Base.Orientation], exif[ExifTags.Base.Make] = turn, "maker"
    given = bytearray(content(image, "jpeg", exif=exif))
    given[given.index(b"Exif") + at] = value
    return bytes(given)


@pytest.mark.parametrize(("at", "value"), [(17, 0), (17, 26), (17, 84)])  # the kind of the field
def test_a_photo_is_put_upright_though_other_fields_of_its_exif_are_damaged(at: int, value: int) -> None:
    assert load(with_maker(6, at, value), channels=3).size == (8, 16)


def test_a_photo_whose_exif_cannot_be_read_is_taken_as_it_lies() -> None:
    assert load(with_maker(6, 6, 0), channels=3).size == (16, 8)


def test_of_an_animation_the_first_frame_is_taken() -> None:
    frames = [Image.new("RGB", (3, 3), colour) for colour in (RED, WHITE)]

    assert load(content(frames[0], "gif", save_all=True, append_images=frames[1:]), 3).getpixel((1, 1)) == RED


def test_a_large_jpeg_decoded_smaller_looks_the_same() -> None:
    ramp = Image.linear_gradient("L").resize((1600, 1200))
    whole, smaller = (squeezed(load(content(ramp, "jpeg"), 1, at_least=least), 32, 1) for least in (None, 32))

    assert np.abs(whole.astype(int) - smaller).max() <= 3


@pytest.mark.parametrize("given", [b"", b"no picture", content(Image.effect_noise((64, 64), 90))[:900]])
def test_a_damaged_picture_is_refused_with_its_name(tmp_path: Path, given: bytes) -> None:
    path = tmp_path / "x.png"
    path.write_bytes(given)

    with pytest.raises(InputError, match=r"x\.png: .*replace or remove it"):
        read_picture(path, PHOTO)


def test_a_picture_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone\.png: there is no such file"):
        read_picture(tmp_path / "gone.png", PHOTO)


@pytest.mark.parametrize("limit", [30, 60])  # Pillow refuses over twice its limit, and only warns over it
def test_a_decompression_bomb_is_refused(monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)

    with pytest.raises(InputError, match=r"pixels.*Make the picture smaller"):
        load(content(Image.new("L", (10, 10))), channels=1)


def test_a_read_picture_is_a_raw_row_of_its_model() -> None:
    row = read_picture(content(Image.new("RGB", (90, 50), RED)), PHOTO)

    assert row.shape == (3, 8, 8)
    assert row[:, 4, 4].tolist() == list(RED)


class TestDecoded:
    @pytest.fixture(autouse=True)
    def cache(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.setenv("GRIDYARD_CACHE", str(tmp_path / "cache"))
        return tmp_path / "cache"

    def test_all_pictures_lie_in_one_file_made_once(self, tmp_path: Path, cache: Path) -> None:
        files = [tmp_path / f"{gray}.png" for gray in (10, 200)]
        for file in files:
            Image.new("L", (5, 7), int(file.stem)).save(file)

        first = decoded("set", "abc", files, 4, 1)
        files[0].unlink()  # so it could not be made again
        again = decoded("set", "abc", files, 4, 1)

        assert first.shape == (2, 4, 4, 1)
        assert again[:, 0, 0, 0].tolist() == [10, 200]
        assert len(list(cache.glob("*.npy"))) == 1

    def test_a_damaged_picture_is_named_and_leaves_no_file(self, tmp_path: Path, cache: Path) -> None:
        (tmp_path / "bad.png").write_bytes(content(Image.effect_noise((64, 64), 90))[:900])

        with pytest.raises(InputError, match=r"bad\.png: the picture is damaged"):
            decoded("set", "abc", [tmp_path / "bad.png"], 4, 1)

        assert not list(cache.glob("*.npy"))


class Waits(logging.Handler):
    """Notices that a second trainer waits for the first."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = threading.Event()

    def emit(self, record: logging.LogRecord) -> None:
        if "is being made by another process" in record.getMessage():
            self.seen.set()


def test_of_two_trainers_that_start_at_once_one_decodes_and_the_other_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first goes on with a picture only when the second waits for it; each picture is loaded once."""
    monkeypatch.setenv("GRIDYARD_CACHE", str(tmp_path / "cache"))
    files = [tmp_path / f"{number}.png" for number in range(3)]
    for file in files:
        Image.new("RGB", (4, 4), RED).save(file)
    waits, loaded = Waits(), []

    def slow(source: Path, *rest: Any, **more: Any) -> Image.Image:
        assert waits.seen.wait(30)
        loaded.append(source)
        return load(source, *rest, **more)

    monkeypatch.setattr(decode, "load", slow)
    places.logger.addHandler(waits)
    try:
        with ThreadPoolExecutor(2) as trainers:
            first, second = trainers.map(lambda _: decoded("photos", "f" * 16, files, 2, 3), range(2))
    finally:
        places.logger.removeHandler(waits)
    assert sorted(loaded) == files
    assert (first == second).all()
    assert first.shape == (3, 2, 2, 3)
