"""A digit as a person draws or photographs it -> 28 x 28 pixels as MNIST has them: light on dark, 20 px high, centred.

The steps are those by which MNIST was made (LeCun, Cortes, Burges 1998): the ink is fitted into 20 x 20 pixels with its
aspect kept, and placed so that its centre of mass is the middle of 28 x 28. Before, light is evened out, dark ink is
told from light ink, and specks are removed; strokes much thinner or thicker than MNIST's are changed to its width.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from scipy import ndimage

from jobs.errors import InputError
from jobs.images.decode import load

Gray = NDArray[np.float32]  # (height, width)

SIDE, FITTED = 28, 20  # px, of the picture and of the ink's longer side
MIDDLE = 14.0  # px: where the centre of mass is put; measured of MNIST's, 14.0 ± 0.3
LARGEST = 280  # px of the side at which a photo is examined
FINE = 4  # work at this many times the final size, so that strokes can be widened by less than a pixel
STROKE = (1.6, 3.6)  # px at the final size: nine in ten of MNIST's strokes are between
FAINTEST = 24.0  # gray levels by which ink must differ from its background
QUIET = 6.0  # ink stands out from the background's noise by this many standard deviations
SPECK = 0.05  # of the largest connected piece of ink; smaller ones are dirt
CLEAN = 40.0  # gray levels that most of the frame of a picture made like MNIST's does not exceed


def read_digit(source: Path | bytes) -> NDArray[np.uint8]:
    """A picture file, or its content, as `as_mnist` makes it.

    Raises:
        InputError: it is no picture, it is damaged, or there is no ink on it; the message names the file.
    """
    image = load(source, channels=1)
    try:
        return as_mnist(image)
    except InputError as error:
        raise InputError(f"{source}: {error}" if isinstance(source, Path) else str(error)) from None


def as_mnist(image: Image.Image) -> NDArray[np.uint8]:
    """(28, 28), 0 background to 255 ink. A picture that is made like MNIST's already is kept as it is.

    Args:
        image: of mode "L", of any size.

    Raises:
        InputError: there is no ink on it.
    """
    if image.size == (SIDE, SIDE) and (made := already(np.asarray(image))) is not None:
        return made
    return centred(fitted(of_usual_stroke(cropped(ink(reduced(image))))))


def already(pixels: NDArray[np.uint8]) -> NDArray[np.uint8] | None:
    """The picture, light on dark, if its ink has the size of MNIST's and lies in the middle of a clean frame."""
    frame = np.ones(pixels.shape, bool)
    frame[1:-1, 1:-1] = False
    made = 255 - pixels if np.median(pixels[frame]) > 127 else pixels
    strong = made > 64
    if np.median(made[frame]) > CLEAN or not strong.any():
        return None
    sides = [int(np.ptp(np.flatnonzero(strong.any(axis)))) + 1 for axis in (0, 1)]
    off = np.abs(np.array(ndimage.center_of_mass(made)) - MIDDLE).max()
    return made if abs(max(sides) - FITTED) <= 2 and off <= 2 else None


def reduced(image: Image.Image) -> Gray:
    """Large photos smaller: noise averages out, and the rest is fast."""
    image = image.copy()
    image.thumbnail((LARGEST, LARGEST), Image.Resampling.BOX)
    return np.asarray(image, np.float32)


def ink(gray: Gray) -> Gray:
    """0 where the background is, 1 where the ink is, between at its edges.

    Raises:
        InputError: nothing stands out from the background.
    """
    rest = gray - background(gray)
    if abs(np.percentile(rest, 0.5)) > np.percentile(rest, 99.5):  # ink is what differs most: darker, or lighter
        rest = -rest
    noise = 1.4826 * float(np.median(np.abs(rest)))  # standard deviation, by the median (Hampel 1974)
    level = float(np.percentile(rest, 99.7))
    if level < max(FAINTEST, QUIET * noise):
        raise InputError("no digit is to be seen: nothing stands out from the background of the picture")
    low = max(0.3 * level, 3 * noise)
    return without_specks(((rest - low) / (0.8 * level - low + 1e-6)).clip(0, 1))


def background(gray: Gray) -> Gray:
    """A smooth surface (a polynomial of second degree) through the pixels that are not ink."""
    height, width = gray.shape
    y, x = np.meshgrid(np.linspace(-1, 1, height), np.linspace(-1, 1, width), indexing="ij")
    terms = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=-1).reshape(-1, 6)
    values = gray.ravel().astype(np.float64)
    surface = np.full_like(values, np.median(values))
    for _ in range(6):  # each time without what lies farthest from the last surface
        distance = np.abs(values - surface)
        near = distance <= max(2.5 * 1.4826 * np.median(distance), 4.0)
        surface = terms @ np.linalg.lstsq(terms[near], values[near], rcond=None)[0]
    return surface.reshape(gray.shape).astype(np.float32)


def without_specks(found: Gray) -> Gray:
    """Without small pieces, and without those at the edge (a shadow, the table beside the paper) if others remain."""
    pieces, count = ndimage.label(found > 0.5, np.ones((3, 3)))
    if not count:
        raise InputError("no digit is to be seen: nothing stands out from the background of the picture")
    sizes = np.bincount(pieces.ravel())[1:]
    edge = np.unique(np.concatenate([pieces[0], pieces[-1], pieces[:, 0], pieces[:, -1]]))
    inner = np.setdiff1d(np.arange(1, count + 1), edge)
    if len(inner) and sizes[inner - 1].max() >= SPECK * sizes.max():
        sizes[edge[edge > 0] - 1] = 0
    kept = np.flatnonzero(sizes >= SPECK * sizes.max()) + 1
    near = ndimage.binary_dilation(np.isin(pieces, kept), np.ones((3, 3)), iterations=2)
    return np.where(near, found, 0).astype(np.float32)


def cropped(found: Gray) -> Image.Image:
    """The ink's box, its longer side FINE times its final size, with room for wider strokes around it."""
    rows, columns = (np.flatnonzero((found > 0.25).any(axis)) for axis in (1, 0))
    box = found[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return Image.fromarray(np.pad(fit(box, FINE * FITTED), 2 * FINE))


def fit(box: Gray | NDArray[np.uint8], longer: int) -> NDArray[np.uint8]:
    """Ink of 0 to 1, or of 0 to 255, at this size of its longer side, as 0 to 255."""
    pixels = box if box.dtype == np.uint8 else (box * 255).round().astype(np.uint8)
    height, width = pixels.shape
    scale = longer / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC))


def of_usual_stroke(image: Image.Image) -> Image.Image:
    """Strokes widened or narrowed to where MNIST's are."""
    width = stroke(np.asarray(image)) / FINE
    change = round((min(max(width, STROKE[0]), STROKE[1]) - width) * FINE / 2)  # px at each side
    if change > 0:
        return image.filter(ImageFilter.MaxFilter(2 * change + 1))
    return image.filter(ImageFilter.MinFilter(1 - 2 * change)) if change < 0 else image


def stroke(pixels: NDArray[np.uint8]) -> float:
    """The mean width of strokes in px: within one, the distance to its edge is a quarter of its width on average."""
    inside = np.pad(pixels > 127, 1)
    if not inside.any():
        return 0.0
    return float(4 * (ndimage.distance_transform_edt(inside)[inside].mean() - 0.5) + 1)


def fitted(image: Image.Image) -> NDArray[np.uint8]:
    """The ink at its final size."""
    pixels = np.asarray(image)
    rows, columns = (np.flatnonzero((pixels > 64).any(axis)) for axis in (1, 0))
    if not len(rows):  # narrowed to nothing
        return fit(pixels, FITTED)
    return fit(pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1], FITTED)


def centred(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The ink with its centre of mass in the middle, as far as the frame allows."""
    down, across = ndimage.center_of_mass(pixels)
    made = np.zeros((SIDE, SIDE), np.uint8)
    top = min(max(round(MIDDLE - down), 0), SIDE - pixels.shape[0])
    left = min(max(round(MIDDLE - across), 0), SIDE - pixels.shape[1])
    made[top : top + pixels.shape[0], left : left + pixels.shape[1]] = pixels
    return made
