"""From picture files to pixels: every mode to RGB or gray, one size, decoded once for all trainers of a machine."""

import os
import struct
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError
from tqdm import tqdm

from jobs import data
from jobs.errors import InputError

Pixels = NDArray[np.uint8]
VERSION = 1  # of the decoding; another makes other pixels, so other files
TURNS = {  # by EXIF's number of how the camera was held
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
DAMAGE = (OSError, SyntaxError, ValueError, EOFError, LookupError, TypeError, OverflowError, struct.error, zlib.error)
DEEP = ("I", "I;16", "I;16B", "I;16L", "F")  # Pillow's modes of more than 8 bits


def decoded(name: str, fingerprint: str, files: Sequence[Path], size: int, channels: int) -> NDArray[np.uint8]:
    """All pictures, (N, size, size, channels), mapped into memory: processes of a machine share them.

    Raises:
        InputError: one of them cannot be read; the message names it.
    """

    def make(path: Path) -> None:
        pixels = np.lib.format.open_memmap(path, "w+", np.uint8, (len(files), size, size, channels))

        def put(row: int) -> None:
            pixels[row] = squeezed(load(files[row], channels, at_least=size), size, channels)

        with ThreadPoolExecutor(os.cpu_count()) as threads:  # Pillow decodes without Python's lock
            rows = threads.map(put, range(len(files)))
            for _ in tqdm(rows, f"decoding {name}", len(files), unit="picture", disable=None, leave=False):
                pass
        pixels.flush()

    key = f"{size}px-{channels}ch-v{VERSION}-{fingerprint[:16]}.npy"
    return mapped(data.cached(name, key, make))


def mapped(path: Path) -> NDArray[Any]:
    """An array file mapped into memory. Writing to it would change this process's copy only; torch asks for that."""
    array: NDArray[Any] = np.load(path, mmap_mode="c")
    return array


def squeezed(image: Image.Image, size: int, channels: int) -> Pixels:
    """(size, size, channels); the picture's sides are made equal, nothing is cut off."""
    small = image.resize((size, size), Image.Resampling.BILINEAR)
    return np.asarray(small, np.uint8).reshape(size, size, channels)


def load(source: Path | bytes, channels: int, at_least: int | None = None) -> Image.Image:
    """A picture file as gray or RGB, upright, transparent parts white; of an animation the first frame.

    Args:
        at_least: a large JPEG may be decoded smaller, with no side under this many pixels: several times faster.

    Raises:
        InputError: it is no picture, it is not whole, or it has more pixels than Pillow takes for harmless.
    """
    shown = source if isinstance(source, Path) else "the picture"
    try:
        with Image.open(source if isinstance(source, Path) else BytesIO(source)) as opened:
            refuse_bomb(opened)
            if at_least is not None:
                opened.draft("RGB", (2 * at_least, 2 * at_least))
            opened.load()
            return plain(upright(opened), "L" if channels == 1 else "RGB")
    except FileNotFoundError:
        raise InputError(f"{shown}: there is no such file") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise InputError(f"{shown}: {error}. Make the picture smaller") from None
    except UnidentifiedImageError:
        raise InputError(f"{shown}: this is no picture that can be read; replace or remove it") from None
    except DAMAGE as error:
        raise InputError(f"{shown}: the picture is damaged ({error}); replace or remove it") from None


def upright(image: Image.Image) -> Image.Image:
    """Turned as its EXIF says, as far as that can be read: a damaged one says nothing of the pixels.

    Not by Pillow's `exif_transpose`, which writes the other fields anew and fails where one of them is damaged.
    """
    try:
        turn = TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # its reader raises whatever it meets
        turn = None
    return image.copy() if turn is None else image.transpose(turn)  # which the closed file takes nothing from


def refuse_bomb(image: Image.Image) -> None:
    """Pillow refuses a picture of twice its limit, and only warns of one over it."""
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and image.width * image.height > limit:
        raise Image.DecompressionBombError(f"{image.width} x {image.height} pixels are more than {limit:,}")


def plain(image: Image.Image, mode: str) -> Image.Image:
    """In this mode, "L" or "RGB", without transparency and of 8 bits."""
    if image.mode in DEEP:
        image = eight_bits(image)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image if image.mode == mode else image.convert(mode)


def eight_bits(image: Image.Image) -> Image.Image:
    """A deep gray picture, 0 to 65,535 (or 0 to 255), as "L"; Pillow itself would cut it off at 255."""
    values = np.asarray(image, np.float32)
    scale = 257.0 if values.max(initial=0) > 255 else 1.0
    return Image.fromarray((values / scale).clip(0, 255).round().astype(np.uint8))
