"""A look at a user's folder of pictures: classes, parts, and what is wrong with it. Torch-free, decodes nothing."""

import warnings
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, UnidentifiedImageError
from tqdm import tqdm

from jobs import sources
from jobs.catalogue.images import ImageFolderParams
from jobs.catalogue.task import Prepared, Unfit
from jobs.spec import Json

ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif")
PARTS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}  # folder -> part
FEWEST = 3  # pictures of a class: one each to learn from, to validate and to test
LAYOUT = "it needs a folder for each class, such as cats/ and dogs/, with that class's pictures in it"
HUB = "hub"


@dataclass(frozen=True, kw_only=True)
class Listing:
    """The pictures of a folder, by class and name: the same for the same folder."""

    files: tuple[Path, ...]
    labels: tuple[int, ...]
    parts: tuple[str, ...]  # of each picture: train, val or test; "": to be split
    classes: tuple[str, ...]
    notes: tuple[str, ...]


def prepare(given: Json) -> Prepared:
    """Look at the user's folder at submission: names, counts and the head of each file.

    Raises:
        Unfit: it cannot be used; the message names the folder or file.
    """
    params = ImageFolderParams.model_validate(given)
    root = sources.locate("data", params.data)
    found = listing(root)
    for file in tqdm(found.files, "looking at pictures", unit="picture", disable=None, leave=False):
        kind_of(file)
    facts: Json = {"data": sources.portable(root), "fingerprint": sources.fingerprint(root)}
    return Prepared(params=facts | pretrained(params))


def pretrained(params: ImageFolderParams) -> Json:
    """The file of weights, if it is one."""
    if params.pretrained is None or params.pretrained == HUB:
        return {}
    path = sources.locate("pretrained", params.pretrained)
    return {"pretrained": sources.portable(path), "pretrained_fingerprint": sources.fingerprint(path)}


def listing(root: Path) -> Listing:
    """What the folder holds.

    Raises:
        Unfit: no class folders, one class only, a class with too few pictures, or no pictures at all.
    """
    if not root.is_dir():
        raise Unfit("data", f"{root} is a file; {LAYOUT}")
    places = parts_of(root)
    pairs = [(part, folder) for part, place in places for folder in folders(place)]
    classes = tuple(sorted({folder.name for _, folder in pairs}))
    found = [(part, folder.name, file) for part, folder in pairs for file in pictures(folder)]
    refuse_too_few(root, classes, [(part, name) for part, name, _ in found])
    return Listing(
        files=tuple(file for *_, file in found),
        labels=tuple(classes.index(name) for _, name, _ in found),
        parts=tuple(part for part, *_ in found),
        classes=classes,
        notes=notes(root, classes, found),
    )


def parts_of(root: Path) -> list[tuple[str, Path]]:
    """The part and the folder that holds its classes: train/ and others, if they are there, else the root itself."""
    given = [(PARTS[folder.name.lower()], folder) for folder in folders(root) if folder.name.lower() in PARTS]
    names = [part for part, _ in given]
    if "train" not in names or len(names) == 1:
        return [("", root)]
    if len(set(names)) < len(names):
        raise Unfit("data", f"{root} has two folders for one part: {listed([folder.name for _, folder in given])}")
    return given


def folders(place: Path) -> list[Path]:
    return sorted(folder for folder in place.iterdir() if folder.is_dir() and not folder.name.startswith("."))


def pictures(place: Path) -> list[Path]:
    """All in a folder and the folders in it, without hidden ones."""
    files = sorted(file for file in place.rglob("*") if file.suffix.lower() in ENDINGS and file.is_file())
    return [file for file in files if not any(part.startswith(".") for part in file.relative_to(place).parts)]


def refuse_too_few(root: Path, classes: tuple[str, ...], found: list[tuple[str, str]]) -> None:
    """Raises:
    Unfit: there is nothing to tell apart, or nothing to learn a class from.
    """
    if not classes:
        lie = "there are pictures in it, but no folders" if pictures(root) else "it holds no folders"
        raise Unfit("data", f"{root}: {lie}; {LAYOUT}")
    if not found:
        raise Unfit("data", f"{root}: no pictures in its folders {listed(classes)}; allowed are {listed(ENDINGS)}")
    if len(classes) == 1:
        raise Unfit("data", f"{root} has one class only, {classes[0]}; two at least are needed")
    learned = Counter(name for part, name in found if part in ("", "train"))
    to_split = 3 - len({part for part, _ in found if part})  # parts that are taken from the pictures to learn from
    least = FEWEST if to_split == 3 else 1 + to_split
    few = [f"{name} has {learned[name]}" for name in classes if learned[name] < least]
    if few:
        where = " to learn from" if least < FEWEST else ""
        raise Unfit("data", f"{root}: each class needs {least} pictures{where} at least; {listed(few)}")


def notes(root: Path, classes: tuple[str, ...], found: list[tuple[str, str, Path]]) -> tuple[str, ...]:
    """What its owner should know."""
    counts = Counter(name for _, name, _ in found)
    said = [f"pictures of each class: {listed([f'{name} {counts[name]}' for name in classes])}"]
    if given := sorted({part for part, *_ in found if part}):
        said.append(f"parts as the folders give them: {listed(given)}")
    used = {file for *_, file in found}
    others = [file for file in root.rglob("*") if file.is_file() and file not in used and not file.name.startswith(".")]
    if others:
        some = listed([file.relative_to(root).as_posix() for file in sorted(others)[:3]])
        said.append(f"files left out, as they are no pictures in a class's folder: {len(others)}, such as {some}")
    return tuple(said)


def kind_of(file: Path) -> str:
    """What of a file has to be converted, by its head alone; "" for nothing.

    Raises:
        Unfit: it cannot be read as a picture.
    """
    try:
        with warnings.catch_warnings(), Image.open(file) as image:
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # decoding refuses it
            if getattr(image, "n_frames", 1) > 1:
                return "animations, of which the first frame is used"
            return "" if image.mode in ("RGB", "L") else f"pictures of mode {image.mode}, which were converted"
    except Image.DecompressionBombError as error:
        raise Unfit("data", f"{file}: {error}. Make the picture smaller, or remove it") from None
    except UnidentifiedImageError:
        empty = "is empty" if file.stat().st_size == 0 else "is no picture that can be read"
        raise Unfit("data", f"{file} {empty}; replace or remove it") from None
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise Unfit("data", f"{file}: the picture cannot be read ({error}); replace or remove it") from None


def listed(names: object) -> str:
    """A few names, and how many more."""
    assert isinstance(names, list | tuple)
    shown = ", ".join(map(str, names[:10]))
    return shown if len(names) <= 10 else f"{shown} and {len(names) - 10} more"
