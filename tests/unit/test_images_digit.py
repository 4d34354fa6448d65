"""A digit as a person draws it becomes one as MNIST has them."""

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy import ndimage

from jobs.errors import InputError
from jobs.images.digit import as_mnist, read_digit
from jobs.images.reading import DIGIT, read_picture
from jobs.problem import Signature

SIGNATURE = Signature(kind="image", input_shape=(1, 28, 28), classes=tuple("0123456789"), about={"shows": DIGIT})


def seven(width: int = 300, height: int = 400, stroke: int = 20) -> Image.Image:
    """A 7 of ink 255 on 0, off the middle."""
    image = Image.new("L", (width, height))
    points = [(0.2 * width, 0.2 * height), (0.6 * width, 0.2 * height), (0.35 * width, 0.7 * height)]
    ImageDraw.Draw(image).line(points, 255, stroke, joint="curve")
    return image


def photo(ink: Image.Image, paper: float, pen: float, light: float = 0.0, noise: float = 0.0) -> Image.Image:
    """That ink on paper of this gray, lit less towards the right, with the noise of a camera."""
    part = np.asarray(ink, float) / 255
    shade = 1 - light * np.linspace(0, 1, part.shape[1])
    pixels = (paper + (pen - paper) * part) * shade + np.random.default_rng(0).normal(0, noise, part.shape)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def likeness(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    """Correlation of two pictures, the second where it fits best within a pixel."""
    shifts = [np.roll(other, (down, across), (0, 1)) for down in (-1, 0, 1) for across in (-1, 0, 1)]
    return max(float(np.corrcoef(one.ravel(), shift.ravel())[0, 1]) for shift in shifts)


@pytest.mark.parametrize(
    "image",
    [
        photo(seven(), 255, 0),
        photo(seven(), 0, 255),
        photo(seven(1500, 2000, 90), 230, 40),
        photo(seven(60, 80, 5), 255, 30),
        photo(seven(), 220, 60, light=0.5, noise=5),
        photo(seven(), 60, 220, light=0.4, noise=5),
        photo(seven(stroke=6), 255, 0),
        photo(seven(stroke=45), 255, 0),
    ],
    ids=["dark ink", "light ink", "large", "small", "uneven light", "blackboard", "thin", "thick"],
)
def test_a_digit_is_found_however_it_was_drawn(image: Image.Image) -> None:
    found, plain = as_mnist(image), as_mnist(photo(seven(), 255, 0))

    assert found.shape == (28, 28)
    assert likeness(found, plain) > 0.8
    assert np.allclose(ndimage.center_of_mass(found), 14, atol=0.75)  # as MNIST's on average
    assert 18 <= np.ptp(np.flatnonzero((found > 64).any(1))) + 1 <= 20


def test_a_narrow_digit_keeps_its_aspect() -> None:
    one = Image.new("L", (200, 200), 255)
    ImageDraw.Draw(one).line([(100, 30), (100, 170)], 0, 14)

    rows, columns = (np.flatnonzero((as_mnist(one) > 64).any(axis)) for axis in (1, 0))

    assert 18 <= np.ptp(rows) + 1 <= 20
    assert np.ptp(columns) + 1 <= 4


def test_a_picture_made_like_mnists_stays_as_it_is_and_its_negative_becomes_it() -> None:
    made = as_mnist(photo(seven(), 255, 0))

    assert np.array_equal(as_mnist(Image.fromarray(made)), made)
    assert np.array_equal(as_mnist(Image.fromarray(255 - made)), made)


def test_specks_and_the_edge_of_the_table_are_no_ink() -> None:
    image = photo(seven(), 230, 40)
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 390, 300, 400), 50)
    draw.ellipse((250, 300, 254, 304), 60)

    assert likeness(as_mnist(image), as_mnist(photo(seven(), 230, 40))) > 0.98


@pytest.mark.parametrize(
    "image",
    [Image.new("L", (28, 28), 255), Image.new("L", (200, 100), 0), photo(Image.new("L", (300, 300)), 200, 0, 0.5, 4)],
    ids=["white", "black", "empty paper"],
)
def test_a_picture_without_a_digit_is_refused_in_words(image: Image.Image) -> None:
    with pytest.raises(InputError, match="no digit is to be seen"):
        as_mnist(image)


def test_a_file_is_read_and_named_when_there_is_no_digit_in_it(tmp_path: Path) -> None:
    path = tmp_path / "seven.png"
    photo(seven(), 255, 0).save(path)
    empty = BytesIO()
    Image.new("L", (90, 90), 250).save(empty, "png")
    (tmp_path / "empty.png").write_bytes(empty.getvalue())

    assert np.array_equal(read_picture(path, SIGNATURE)[0].numpy(), read_digit(path))
    with pytest.raises(InputError, match=r"empty\.png: no digit"):
        read_digit(tmp_path / "empty.png")
