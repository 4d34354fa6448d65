"""Which errors say that memory has ended."""

import errno

import numpy as np
import pytest
import torch

from jobs.ends import failed
from jobs.errors import InputError
from jobs.memory import out_of_memory
from jobs.spec import Assignment
from jobs.states import FailureReason
from tests.unit.test_worker_parts import claim

HUGE = 1 << 50  # numbers: more than any machine has


def raised(make: object) -> Exception:
    try:
        make()  # type: ignore[operator]
    except Exception as error:
        return error
    raise AssertionError("it was not raised")


@pytest.mark.parametrize(
    "error",
    [
        raised(lambda: torch.empty(HUGE)),
        raised(lambda: np.empty(HUGE)),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("std::bad_alloc"),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
    ],
    ids=str,
)
def test_it_is_heard_from_torch_numpy_and_the_system_and_through_other_errors(error: Exception) -> None:
    assert out_of_memory(error)

    def wrap() -> None:
        raise InputError("the task's data cannot be read") from error

    assert out_of_memory(raised(wrap))
    assignment = Assignment(spec=claim(7).spec, attempt=1)
    assert failed(assignment, 3, error).reason is FailureReason.OUT_OF_MEMORY


@pytest.mark.parametrize(
    "error", [ValueError("out of memory"), RuntimeError("shapes do not match"), OSError(errno.ENOSPC, "disk full")]
)
def test_other_errors_are_other_errors(error: Exception) -> None:
    assert not out_of_memory(error)
    assert failed(Assignment(spec=claim(7).spec, attempt=1), 3, error).reason is FailureReason.ERROR
