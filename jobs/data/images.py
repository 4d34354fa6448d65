"""From the archive of photos at their home to a folder of small ones."""

import logging
import re
import zipfile
from pathlib import Path
from typing import IO

logger = logging.getLogger(__name__)

SHORTER_SIDE = 200  # px; training crops to 180 at most
QUALITY = 85  # of a JPEG


def cats_dogs(raw: Path, target: Path) -> None:
    """PetImages/Cat/7.jpg becomes train/cat.7.jpg, RGB. What is no readable image is left out and counted."""
    from tqdm import tqdm

    (target / "train").mkdir()
    left_out = []
    with zipfile.ZipFile(raw / "kagglecatsanddogs_5340.zip") as archive:
        for name in tqdm(archive.namelist(), desc="cats_dogs", unit="file", disable=None, leave=False):
            found = re.fullmatch(r"PetImages/(Cat|Dog)/(\d{1,6})\.jpg", name)
            if found:
                path = target / "train" / f"{found[1].lower()}.{found[2]}.jpg"
                with archive.open(name) as file:
                    if not _shrink(file, path):
                        left_out.append(name)
    if left_out:
        some = ", ".join(left_out[:5])
        logger.warning("cats_dogs: %d images could not be read and were left out: %s", len(left_out), some)


def _shrink(file: IO[bytes], path: Path) -> bool:
    """Whether it could be read."""
    from PIL import Image

    try:
        with Image.open(file) as opened:
            image = opened.convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):  # what Pillow raises for broken files
        return False
    scale = SHORTER_SIDE / min(image.size)
    size = [max(SHORTER_SIDE, round(side * scale)) for side in image.size]
    image.resize((size[0], size[1]), Image.Resampling.LANCZOS).save(path, quality=QUALITY)
    return True
