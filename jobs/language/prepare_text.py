"""What is said of a user's text, and of the model that is to learn it, at submission. Loads no torch."""

from pathlib import Path

from jobs import data, sources
from jobs.catalogue.task import Prepared, Unfit
from jobs.data.sets import SETS
from jobs.errors import InputError
from jobs.language import places, texts
from jobs.spec import Json


def prepare(params: Json) -> Prepared:
    """Where text, model and tokenizer lie, as the jobs keep it, and the text's fingerprint.

    Raises:
        Unfit: one of them is not there or cannot be used.
    """
    path = located(params["data"])
    try:
        texts.read(path)
    except InputError as wrong:
        raise Unfit("data", str(wrong)) from None
    fixed: Json = {"data": sources.portable(path), "fingerprint": sources.fingerprint(path)}
    folders: dict[str, Path | None] = {}
    for name in ("model", "tokenizer"):
        if params[name] is not None:
            fixed[name], folders[name] = places.settle(name, params[name])
    if not folders:
        raise Unfit("tokenizer", f"is missing; {NEEDS_ONE}")
    if "tokenizer" not in folders or folders["tokenizer"] is not None:
        places.check(folders.get("model"), folders.get("tokenizer"))
    return Prepared(params=fixed)


NEEDS_ONE = (
    "a new GPT-2 needs a tokenizer: give a folder with a tokenizer.json, stories260k or kogpt2_tokenizer, or a "
    "name on the hub; or give a pretrained model, which has its own"
)


def located(given: str | None) -> Path:
    """The text file, or the one text of a data set, which is fetched if it is not here.

    Raises:
        Unfit: there is none.
        InputError: the data set could not be fetched.
    """
    files = [file.path for file in SETS[given].files] if given in SETS else []
    if given is not None and len(files) == 1 and files[0].endswith(".txt"):
        try:
            return data.get(given) / files[0]
        except InputError as wrong:
            raise Unfit("data", str(wrong)) from None
    path = sources.locate("data", given)
    if not path.is_file():
        raise Unfit("data", f"{path} is a folder; give one text file")
    return path
