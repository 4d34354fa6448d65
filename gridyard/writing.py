"""Settings of writing, looked at before a language model is loaded."""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from jobs.catalogue.language import WritingParams
from jobs.errors import InputError
from scheduler.wording import explain


def check(given: Mapping[str, Any]) -> None:
    """
    Args:
        given: settings by name; a seed may be among them, and is left to whoever draws.

    Raises:
        InputError: a setting has no such name or value.
    """
    settings = {name: value for name, value in given.items() if name != "seed"}
    for name, value in settings.items():
        if isinstance(value, float) and value.is_integer():
            settings[name] = int(value)  # the message shows -1 as it was typed
    try:
        WritingParams.model_validate(settings)
    except ValidationError as error:
        found = explain(WritingParams, error, "there is no setting of writing")
        told = [one.message if one.at_key else f"{'.'.join(map(str, one.path))} {one.message}" for one in found]
        raise InputError("; ".join(told)) from None
