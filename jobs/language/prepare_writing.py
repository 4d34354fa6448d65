"""What is said of a writing model at submission. Loads no torch."""

from jobs.catalogue.task import Prepared
from jobs.language import places
from jobs.spec import Json


def prepare(params: Json) -> Prepared:
    """Where the model and the tokenizer lie, as the jobs keep it.

    Raises:
        Unfit: one of them is not there, or is none, or they do not fit together.
    """
    model, folder = places.settle("model", params["model"])
    fixed, tokens_folder = {"model": model}, folder
    if params["tokenizer"] is not None:
        fixed["tokenizer"], tokens_folder = places.settle("tokenizer", params["tokenizer"])
    if params["tokenizer"] is None or tokens_folder is not None:
        places.check(folder, tokens_folder)
    if folder is not None and tokens_folder is not None:
        fixed["fingerprint"] = places.fingerprint(folder, tokens_folder)
    return Prepared(params=fixed)
