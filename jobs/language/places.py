"""Where models and tokenizers lie: a folder, a data set of ours, or the Hugging Face hub. Loads no torch."""

import hashlib
import re
from functools import lru_cache
from pathlib import Path

from jobs import data, sources
from jobs.catalogue.language import KOGPT2
from jobs.catalogue.task import Unfit
from jobs.data.fetch import quiet_hub
from jobs.errors import DataMissing, InputError, did_you_mean
from jobs.language import tokenizer
from jobs.language.tokenizer import Tokenizer
from jobs.spec import Json

OURS = {KOGPT2: "kogpt2"} | {name: name for name in ("kogpt2", "kogpt2_tokenizer", "stories260k")}  # name: data set
HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
WANTED = ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json")
WEIGHTS = ("model.safetensors", "model-*-of-*.safetensors", "model.safetensors.index.json")


def settle(param: str, given: str) -> tuple[str, Path | None]:
    """At submission: the name as the jobs keep it, and the folder if it is on this machine. Nothing is downloaded.

    Raises:
        Unfit: it is no folder, no data set and no name that the hub could have.
    """
    try:
        for place in (Path(given).expanduser().absolute(), data.folder().absolute() / given):
            if place.is_dir():
                return sources.portable(place), place
    except (OSError, RuntimeError) as error:  # too long a name; a home of nobody
        raise Unfit(param, f'was given "{given}", which can be no folder: {error}') from None
    if given in OURS:
        try:
            return given, data.find(OURS[given])
        except DataMissing:
            return given, None  # a worker fetches it
    if not HUB_NAME.fullmatch(given):
        sources.locate(param, given)  # tells where it was looked for
        raise Unfit(param, f'was given "{given}", which is no folder')
    return given, None


def folder(param: str, stored: str) -> Path:
    """In a trainer: the folder; fetched, if it is a data set or a name on the hub and not here yet.

    Raises:
        InputError: it is not here and cannot be fetched; the message says which files to put where.
    """
    place = data.contained(stored)
    if place.is_dir():
        return place
    if stored in OURS:
        return data.get(OURS[stored])
    if HUB_NAME.fullmatch(stored):
        return _from_the_hub(param, stored)
    return sources.opened(stored)


def _from_the_hub(param: str, name: str) -> Path:
    """Through the hub's own cache, which may have it without network (and alone is asked with HF_HUB_OFFLINE=1)."""
    from huggingface_hub import snapshot_download

    wanted = [*WANTED, *WEIGHTS] if param == "model" else list(WANTED)
    try:
        with quiet_hub(bars=False):
            return Path(snapshot_download(name, allow_patterns=wanted))
    except Exception as error:  # of many kinds: no network, no such name, no right to it
        raise InputError(
            f'{param} "{name}" is neither a folder in {data.folder().absolute()} nor a data set'
            f"{did_you_mean(name, OURS)} The Hugging Face hub did not give it: {_why(error)}. Without network put "
            f"{_files(param)} into {data.folder().absolute() / name} and try again"
        ) from None


def _why(error: Exception) -> str:
    """In few words."""
    from huggingface_hub.errors import LocalEntryNotFoundError, RepositoryNotFoundError

    if isinstance(error, LocalEntryNotFoundError):
        return "it could not be reached, and its cache on this machine has no such files"
    if isinstance(error, RepositoryNotFoundError):
        return "it knows no such name, or does not show it to you"
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]


def _files(param: str) -> str:
    return "config.json, model.safetensors and tokenizer.json" if param == "model" else "tokenizer.json"


def config(folder: Path) -> Json:
    """A model's config.json, after a look at the files of its folder.

    Raises:
        Unfit: it has no config.json, or no weights as safetensors.
    """
    if not (folder / "config.json").is_file():
        raise Unfit("model", f"{folder} has no config.json; a model's folder has {_files('model')}")
    if not weights(folder):
        other = "; weights as pickle (.bin) are not read: they can run code" if any(folder.glob("*.bin")) else ""
        raise Unfit("model", f"{folder} has no model.safetensors{other}")
    return tokenizer.facts("model", folder / "config.json")


def weights(folder: Path) -> list[Path]:
    """The files of a model's weights, in order."""
    return sorted(path for pattern in WEIGHTS[:2] for path in folder.glob(pattern))


def fingerprint(folder: Path, tokens: Path) -> str:
    """sha256 over what makes a model write what it writes: its config and weights, and its tokenizer."""
    named = [folder / "config.json", *weights(folder), tokens / "tokenizer.json", tokens / "tokenizer_config.json"]
    files = tuple(path for path in named if path.is_file())
    return _digest(files, tuple((path.stat().st_mtime_ns, path.stat().st_size) for path in files))


@lru_cache(maxsize=8)
def _digest(files: tuple[Path, ...], stamps: tuple[tuple[int, int], ...]) -> str:
    """The files as they are at these times: the jobs of a trainer mostly ask for the same."""
    return hashlib.sha256("/".join(map(sources.fingerprint, files)).encode()).hexdigest()


def refuse_larger(tokens: Tokenizer, config: Json) -> None:
    """Raises:
    Unfit: the tokenizer has tokens that the model does not know.
    """
    known = config.get("vocab_size")
    if isinstance(known, int) and tokens.size > known:
        raise Unfit(
            "tokenizer",
            f"does not belong to the model: the tokenizer has {tokens.size:,} tokens, and the model knows {known:,}; "
            "leave the parameter tokenizer out to take the model's own",
        )


def check(model: Path | None, tokens: Path | None) -> None:
    """What can be said of folders at submission. The tokenizer is the model's where it has none of its own.

    Raises:
        Unfit: a file is missing, or they do not fit together.
    """
    facts = config(model) if model is not None else {}
    place = tokens or model
    if place is not None:
        refuse_larger(tokenizer.read(place), facts)
