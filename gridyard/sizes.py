"""Bytes as people read them."""


def readable(size: int) -> str:
    """999 bytes, 1.2 kB, 34.0 MB, 5.6 GB: decimal, as disks are sold."""
    if size < 1_000:
        return f"{size} bytes"
    for unit, one in (("kB", 1e3), ("MB", 1e6), ("GB", 1e9)):
        if size < one * 999.95:
            return f"{size / one:.1f} {unit}"
    return f"{size / 1e12:.1f} TB"
