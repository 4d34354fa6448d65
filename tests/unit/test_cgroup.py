"""What control groups say of memory, read from folders as Linux has them."""

from pathlib import Path

import pytest

from jobs import cgroup


def write(root: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root


@pytest.fixture
def version_2(tmp_path: Path) -> Path:
    """A service in a slice: the slice has a limit, the service has none of its own."""
    groups = "sys/fs/cgroup"
    return write(
        tmp_path,
        {
            "proc/self/cgroup": "0::/yard.slice/worker.service\n",
            f"{groups}/memory.stat": "inactive_file 5\n",
            f"{groups}/yard.slice/memory.max": "1000\n",
            f"{groups}/yard.slice/memory.current": "700\n",
            f"{groups}/yard.slice/memory.stat": "anon 1\nfile 300\ninactive_file 50\n",
            f"{groups}/yard.slice/memory.events": "oom 9\noom_kill 9\n",
            f"{groups}/yard.slice/worker.service/memory.max": "max\n",
            f"{groups}/yard.slice/worker.service/memory.current": "600\n",
            f"{groups}/yard.slice/worker.service/memory.events": "low 0\noom 3\noom_kill 2\noom_group_kill 0\n",
        },
    )


@pytest.fixture
def version_1(tmp_path: Path) -> Path:
    """A container whose /proc names a path of the host: its own group is the root of what it sees."""
    groups = "sys/fs/cgroup/memory"
    return write(
        tmp_path,
        {
            "proc/self/cgroup": "5:cpu,cpuacct:/docker/ab\n4:memory:/docker/ab\n1:name=systemd:/docker/ab\n0::/\n",
            f"{groups}/memory.limit_in_bytes": "2000\n",
            f"{groups}/memory.usage_in_bytes": "1500\n",
            f"{groups}/memory.stat": "cache 900\ninactive_file 1\ntotal_inactive_file 100\n",
            f"{groups}/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 4\n",
        },
    )


def test_the_kills_are_those_of_the_innermost_group(version_2: Path) -> None:
    assert cgroup.oom_kills(version_2) == 2


def test_the_limit_may_be_that_of_a_group_around_and_files_not_used_lately_are_free(version_2: Path) -> None:
    assert cgroup.free_bytes(version_2) == 1000 - 700 + 50


def test_a_container_of_version_1_sees_its_group_as_the_root(version_1: Path) -> None:
    assert (cgroup.oom_kills(version_1), cgroup.free_bytes(version_1)) == (4, 2000 - 1500 + 100)


def test_more_than_the_limit_is_nothing_left(version_1: Path) -> None:
    (version_1 / "sys/fs/cgroup/memory/memory.usage_in_bytes").write_text("2500")
    assert cgroup.free_bytes(version_1) == 0


@pytest.mark.parametrize("told", [None, "0::/\n", "0::/../outside\n"])
def test_where_nothing_is_said_nothing_is_known(tmp_path: Path, told: str | None) -> None:
    if told is not None:
        write(tmp_path, {"proc/self/cgroup": told, "sys/fs/cgroup/cgroup.procs": "1"})
    assert (cgroup.oom_kills(tmp_path), cgroup.free_bytes(tmp_path)) == (None, None)


def test_this_machine_can_be_asked() -> None:
    for found in (cgroup.oom_kills(), cgroup.free_bytes()):
        assert found is None or found >= 0
