"""Which GPUs a worker sees and whether they are well, by what nvidia-smi says: it is played here by a script."""

import sys
from pathlib import Path

import pytest

from jobs.spec import Failure
from jobs.states import FailureReason
from workers import devices
from workers.gpu import Gpu

TWO = """GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-aaaa0000-1111-2222-3333-444444444444)
GPU 1: NVIDIA A100-SXM4-40GB (UUID: GPU-bbbb0000-1111-2222-3333-444444444444)
"""
PARTS = """GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-aaaa0000-1111-2222-3333-444444444444)
  MIG 3g.20gb     Device  0: (UUID: MIG-c6d4f1ef-42e4-5de3-91c7-45d71c87eb3f)
  MIG 3g.20gb     Device  1: (UUID: MIG-cba663e8-9bed-5b25-b243-5985ef7c9beb)
GPU 1: NVIDIA A100-SXM4-40GB (UUID: GPU-bbbb0000-1111-2222-3333-444444444444)
"""


@pytest.fixture
def says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An nvidia-smi that prints the file which is returned, and ends with the code in the file beside it."""
    tool, output = tmp_path / "nvidia-smi", tmp_path / "output"
    (tmp_path / "code").write_text("0")
    tool.write_text(
        f"#!{sys.executable}\nimport pathlib, sys\nhere = pathlib.Path(__file__).parent\n"
        "print((here / 'output').read_text(), end='')\nsys.exit(int((here / 'code').read_text()))\n"
    )
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return output


@pytest.fixture
def no_tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


@pytest.mark.parametrize(
    ("named", "seen"),
    [
        ("", []),
        ("-1", []),
        ("void", []),
        ("NoDevFiles", []),
        ("0,-1,1", ["0"]),  # as CUDA does: what follows a name that is none is not seen
        ("1, 0", ["1", "0"]),
        ("0,0", ["0"]),
        ("GPU-aaaa0000-1111,GPU-bbbb0000", ["GPU-aaaa0000-1111", "GPU-bbbb0000"]),
        ("MIG-c6d4f1ef-42e4-5de3-91c7-45d71c87eb3f", ["MIG-c6d4f1ef-42e4-5de3-91c7-45d71c87eb3f"]),
        ("MIG-GPU-aaaa0000-1111/1/0", ["MIG-GPU-aaaa0000-1111/1/0"]),
    ],
)
def test_cuda_visible_devices_is_read_as_cuda_reads_it(
    named: str, seen: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named)
    assert devices.visible_gpus() == seen


def test_without_it_the_gpus_of_the_machine_are_seen_by_uuid(says: Path) -> None:
    says.write_text(TWO)
    assert devices.visible_gpus() == [
        "GPU-aaaa0000-1111-2222-3333-444444444444",
        "GPU-bbbb0000-1111-2222-3333-444444444444",
    ]


def test_a_gpu_in_parts_is_seen_as_its_parts(says: Path) -> None:
    says.write_text(PARTS)
    assert devices.visible_gpus() == [
        "MIG-c6d4f1ef-42e4-5de3-91c7-45d71c87eb3f",
        "MIG-cba663e8-9bed-5b25-b243-5985ef7c9beb",
        "GPU-bbbb0000-1111-2222-3333-444444444444",
    ]


@pytest.mark.usefixtures("no_tool")
def test_without_the_tool_the_driver_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "DRIVER", tmp_path)
    assert devices.visible_gpus() == []
    card = tmp_path / "0000:3b:00.0"
    card.mkdir()
    (card / "information").write_text("Model: \t NVIDIA H200\nGPU UUID: \t GPU-aaaa0000-1111\nBus Type: \t PCIe\n")
    assert devices.visible_gpus() == ["GPU-aaaa0000-1111"]
    assert devices.trouble("GPU-aaaa0000-1111") is None  # nobody can tell


def test_each_gpu_has_as_many_slots_as_set_and_so_many_for_all_when_slots_are_given(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    assert devices.slot_devices("gpu", None, per_gpu=2) == ["0", "1", "0", "1"]
    assert devices.slot_devices("gpu", 3, per_gpu=2) == ["0", "1", "0"]
    assert devices.slot_devices("gpu", None, "cuda") == ["0", "1"]


def test_who_wants_a_gpu_and_sees_none_gets_one_slot_whose_trainer_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert devices.slot_devices("gpu", None, "cuda") == [None]


@pytest.mark.parametrize(
    ("code", "output", "told"),
    [
        (0, "1024, 40960\n", None),
        (0, "40000, 40960\n", "it is full: others use 40,000 of its 40,960 MiB"),
        (0, "[Unknown Error], 40960\n", "it does not answer: [Unknown Error], 40960"),
        (6, "No devices were found\n", "it does not answer: No devices were found"),
        (15, "Unable to determine the device handle for GPU0000: GPU is lost.\n", "it does not answer: Unable to"),
        (9, "", "it does not answer: nvidia-smi ended with 9"),
    ],
)
def test_a_gpu_that_is_gone_or_full_is_known_by_what_the_tool_says(
    says: Path, code: int, output: str, told: str | None
) -> None:
    says.write_text(output)
    says.with_name("code").write_text(str(code))
    found = devices.trouble("GPU-aaaa0000-1111-2222-3333-444444444444")
    assert found is None if told is None else found is not None and found.startswith(told)


def test_a_part_of_a_gpu_is_gone_when_it_is_not_listed(says: Path) -> None:
    says.write_text(PARTS)
    assert devices.trouble("MIG-c6d4f1ef-42e4-5de3-91c7-45d71c87eb3f") is None
    assert devices.trouble("MIG-00000000-42e4-5de3-91c7-45d71c87eb3f") == "it is not listed any more"


def test_a_tool_that_hangs_is_trouble_too(says: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    says.with_name("nvidia-smi").write_text(f"#!{sys.executable}\nimport time\ntime.sleep(60)\n")
    monkeypatch.setattr(devices, "TOOL_SECONDS", 0.2)
    assert devices.trouble("0") == "it does not answer: nvidia-smi has not answered for 0.2 s"


@pytest.mark.parametrize(
    ("reason", "error", "suspected"),
    [
        (FailureReason.ERROR, "AcceleratorError: CUDA error: device-side assert triggered", True),
        (FailureReason.ERROR, "RuntimeError: cuDNN error: CUDNN_STATUS_EXECUTION_FAILED", True),
        (FailureReason.ERROR, "ValueError: barracuda", False),
        (FailureReason.OUT_OF_MEMORY, "", True),
        (FailureReason.CRASHED, "signal 11", True),
        (FailureReason.DIVERGED, "CUDA", False),
    ],
)
def test_a_gpu_is_suspected_of_what_it_can_have_done(reason: FailureReason, error: str, suspected: bool) -> None:
    assert Gpu("0").suspected(Failure(job=1, reason=reason, error=error)) is suspected
