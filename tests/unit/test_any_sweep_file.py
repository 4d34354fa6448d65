"""Whatever is given as a sweep is a sweep or an InputError, never a traceback."""

import string
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.errors import InputError
from scheduler.sweep_file import parse, read
from scheduler.sweep_keys import SweepKeys

KEYS = st.sampled_from(
    [*SweepKeys.model_fields, "lr", "hidden", "scheduler", "gamma", "metric", "monitor", "mode", "gpu", "step"]
)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.dates(),
    st.sampled_from(["iris", "sine", "adam", "step", "val_loss", "test_loss", "max"]),
    st.binary(max_size=3),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.one_of(KEYS, st.text(max_size=5), st.integers()), inner, max_size=4),
    ),
    max_leaves=15,
)
SWEEPS = st.fixed_dictionaries(
    {"task": st.sampled_from(["iris", "sine"])},
    optional={
        "grid": st.dictionaries(KEYS, VALUES, max_size=3),
        "cells": st.lists(st.dictionaries(KEYS, VALUES, max_size=3), max_size=3),
        "fixed": st.dictionaries(KEYS, VALUES, max_size=3),
        "seeds": VALUES,
        "objective": VALUES,
        "early_stopping": st.dictionaries(KEYS, VALUES, max_size=3),
        "resources": VALUES,
    },
)


@settings(deadline=None, max_examples=600)  # how long it takes depends on who else computes
@given(VALUES | SWEEPS)
def test_whatever_is_submitted_is_a_sweep_or_an_input_error(data: Any) -> None:
    try:
        spec = parse(data)
    except InputError as error:
        assert str(error).encode()  # noqa: PT017
    else:
        assert spec.task == data["task"]


@settings(deadline=None, max_examples=300)
@given(st.one_of(st.text(max_size=60), st.text(alphabet=string.punctuation + " \n\tab1", max_size=40)))
def test_whatever_text_a_file_holds_is_an_input_error(folder: Path, text: str) -> None:
    for ending in ("yaml", "json", "toml"):
        refuses(folder / f"sweep.{ending}", text.encode("utf-8", "surrogatepass"))


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=40))
def test_whatever_bytes_a_file_holds_are_an_input_error(folder: Path, content: bytes) -> None:
    refuses(folder / "sweep.yaml", content)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sweeps")


def refuses(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(InputError):  # "task: iris" does not come about by chance
        read(path)
