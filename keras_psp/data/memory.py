"""How much memory decoded examples may take."""

import contextlib
import os
from pathlib import Path


def free_memory() -> int:
    """Returns the free memory in bytes, at most the container's limit; 4 GiB if unknown."""
    limits = [_available()]
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with contextlib.suppress(OSError, ValueError):  # another system, or "max"
            limits.append(int(Path(path).read_text()))
    return min(limits)


def _available():
    with contextlib.suppress(OSError):
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return 1024 * int(line.split()[1])
    try:  # macOS reports how much memory there is, not how much is free
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    except (AttributeError, ValueError, OSError):
        return 4 * 1024**3
