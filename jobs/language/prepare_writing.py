"""What is said of a writing model at submission. Loads no torch."""

from jobs.catalogue.task import Prepared
from jobs.language import places
from jobs.spec import Json


def prepare(params: Json) -> Prepared:
    """Where the model and the tokenizer lie, as the jobs keep it.

    Raises:
        Unfit: one of them is not there, or is none, or they do not fit together.
    """
    model, model_folder = places.settle("model", params["model"])
    if params["tokenizer"] is None:
        places.check(model_folder, None)
        return Prepared(params={"model": model})
    tokens, tokens_folder = places.settle("tokenizer", params["tokenizer"])
    if tokens_folder is not None:
        places.check(model_folder, tokens_folder)
    return Prepared(params={"model": model, "tokenizer": tokens})
