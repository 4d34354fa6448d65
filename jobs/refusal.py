"""What pydantic refuses of a single number or word, in our words: of a setting, of an option."""

from typing import Any

KINDS = {"int": "a whole number", "float": "a number", "bool": "true or false"}
BOUNDS = {
    "greater_than": ("above", "gt"),
    "greater_than_equal": ("at least", "ge"),
    "less_than": ("below", "lt"),
    "less_than_equal": ("at most", "le"),
}


def allowed(problem: Any) -> str:
    """'allowed is a whole number', of one of `ValidationError.errors()`; of what we have no words for, pydantic's."""
    kind = str(problem["type"])
    if kind in BOUNDS:
        word, bound = BOUNDS[kind]
        return f"allowed is a number, {word} {problem['ctx'][bound]:,}"
    known = KINDS.get(kind.partition("_")[0])
    return f"allowed is {known}" if known else str(problem["msg"]).removeprefix("Value error, ")
