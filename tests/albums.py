"""A folder of tiny pictures of two classes."""

from pathlib import Path

from PIL import Image


def album(folder: Path, count: int = 60) -> Path:
    for number in range(count):
        file = folder / "ab"[number % 2] / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (16, 16), (number, 0, 0)).save(file)
    return folder
