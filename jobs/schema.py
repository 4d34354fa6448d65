"""What the columns of a table mean to a model: plain facts, kept as JSON in `Signature.about["columns"]`."""

from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:  # it imports torch
    from jobs.problem import Signature


class Column(BaseModel):
    """One raw column of a model's rows, a float64 each: NaN stands for a missing cell.

    number: as it is. category: its place in `values`; -1 for any other. date: days since 1970-01-01, UTC.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    kind: Literal["number", "category", "date"] = "number"
    missing: bool = False  # cells of training rows were missing, so the network is told which ones are
    values: tuple[str, ...] = ()  # of a category, as the training rows have them, in the order of their codes
    other: bool = False  # rare values of a category were left out, and are one together
    drop_first: bool = False  # the first value has no input of its own: all others 0 says it
    decimal: Literal["", ".", ","] = ""  # of a number, what stands before its decimals; "": no cell told
    format: str = ""  # of a date written as text, as pandas.to_datetime takes it
    clock: bool = Field(False, description="dates come with a time of day")


def columns_of(signature: "Signature") -> tuple[Column, ...]:
    """The raw columns of a model on a table; those of a model that tells no more than their names are numbers.

    Raises:
        pydantic.ValidationError: what the signature tells is none of this version.
    """
    told: list[Any] = signature.about.get("columns") or [{"name": name} for name in signature.features]
    return tuple(Column.model_validate(column) for column in told)
