"""What Linux's control groups (versions 1 and 2) say of our memory: what a container may take, and who was killed.

A container may see its own group as the root of the tree, whatever path /proc names: then the nearest folder that is
there counts.
"""

from pathlib import Path

ROOT = Path("/")


def oom_kills(root: Path = ROOT) -> int | None:
    """How many processes of our group the kernel has killed for want of memory, ever; None where it does not say."""
    for folder in _groups(root):
        for name in ("memory.events", "memory.oom_control"):  # of version 2, of version 1
            count = _named(folder / name, "oom_kill")
            if count is not None:
                return count
    return None


def free_bytes(root: Path = ROOT) -> int | None:
    """What our group, and those around it, may still take; None where nothing limits them.

    Files that were read and not used lately count as free: the kernel drops them before it kills anybody.
    """
    left = []
    for folder in _groups(root):
        limit = _number(folder / "memory.max", folder / "memory.limit_in_bytes")
        used = _number(folder / "memory.current", folder / "memory.usage_in_bytes")
        if limit is not None and used is not None:
            stat = folder / "memory.stat"
            cache = _named(stat, "total_inactive_file")  # version 1 has both: this one is of the groups within, too
            cache = _named(stat, "inactive_file") if cache is None else cache
            left.append(max(limit - used + (cache or 0), 0))
    return min(left, default=None)


def _groups(root: Path) -> list[Path]:
    """The folders of our group and of those around it, innermost first."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:  # not Linux
        return []
    paths = {controllers: path for _, controllers, path in (line.split(":", 2) for line in lines)}
    first = next((path for controllers, path in paths.items() if "memory" in controllers.split(",")), None)
    mount = root / "sys/fs/cgroup" / ("memory" if first is not None else "")
    own = mount / (paths.get("", "") if first is None else first).lstrip("/")
    return [folder for folder in (own, *own.parents) if folder.is_relative_to(mount) and folder.is_dir()]


def _named(file: Path, name: str) -> int | None:
    """The number of a line "name 7"."""
    try:
        lines = file.read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) for line in lines if line.startswith(f"{name} ")), None)


def _number(*files: Path) -> int | None:
    """What the first of these files that is there holds; None for "max", which is no limit."""
    for file in files:
        try:
            content = file.read_text().strip()
        except OSError:
            continue
        return None if content == "max" else int(content)
    return None
