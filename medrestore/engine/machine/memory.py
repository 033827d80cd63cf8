"""What memory this process has, has had, and may have."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import sys
from collections.abc import Iterator
from pathlib import Path

SHARE = 0.8
"""Share of the memory that is free, or that the system allows, that a process takes by default."""

REFUSED = "GB may be taken"
"""Words in the refusal of every scan that does not fit; a batch gets it from another process, as text."""

_PROC = Path("/proc")
_CGROUPS = Path("/sys/fs/cgroup")


def resident_bytes() -> int:
    """Memory of this process; 0 where the system does not tell."""
    return _status("VmRSS")


def peak_bytes() -> int:
    """Highest memory of this process, since it began or since `reset_peak`."""
    # `ru_maxrss` is the last resort: it begins with the peak of the parent process.
    unit = 1 if sys.platform == "darwin" else 1024
    return _status("VmHWM") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def release_memory() -> None:
    """Return freed memory to the system: the C library keeps pieces of up to 32 MB, a network's many."""
    with contextlib.suppress(OSError, AttributeError):  # only the GNU library keeps and releases them
        ctypes.CDLL(None).malloc_trim(0)


def reset_peak() -> bool:
    """Let `peak_bytes` count from here, with freed memory given back; False where the system cannot."""
    release_memory()
    try:
        (_PROC / "self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def usable_bytes() -> int:
    """Return how large this process may become by default.

    That is 80 % of the free memory, counting the memory that the process has already, or of the limit of its
    control group (version 1 or 2), whichever is less.
    """
    found = [_free_bytes() + resident_bytes(), *_cgroup_limits(_PROC / "self/cgroup", _CGROUPS)]
    return int(SHARE * min(found))


def _free_bytes() -> int:
    free = _field(_PROC / "meminfo", "MemAvailable")
    return free or os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _cgroup_limits(membership: Path, root: Path) -> Iterator[int]:
    """Yield the limits of the control groups that this process is in, from its own up to the root's."""
    for folder, version in _cgroup_folders(membership, root):
        name = "memory.max" if version == 2 else "memory.limit_in_bytes"
        with contextlib.suppress(OSError, ValueError):  # "max" is no limit
            yield int((folder / name).read_text())


def out_of_memory_kills(membership: Path = _PROC / "self/cgroup", root: Path = _CGROUPS) -> int:
    """Return how often the system ended a process of this control group for want of memory; 0 if unknown."""
    for folder, version in _cgroup_folders(membership, root):
        name = "memory.events" if version == 2 else "memory.oom_control"
        with contextlib.suppress(OSError, ValueError, KeyError):
            stated = dict(line.split() for line in (folder / name).read_text().splitlines())
            return int(stated["oom_kill"])
    return 0


def _cgroup_folders(membership: Path, root: Path) -> Iterator[tuple[Path, int]]:
    """Yield the folders of the control groups that count memory, from the innermost up, and their version."""
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        number, controllers, path = line.split(":", 2)
        if number == "0" and not controllers:
            top, version = root, 2
        elif "memory" in controllers.split(","):
            top, version = root / "memory", 1
        else:
            continue
        # In a container the path may be the one outside the container: the file is at the root then.
        group = Path(path.lstrip("/"))
        for folder in (group, *group.parents):
            yield top / folder, version


def _status(name: str) -> int:
    return _field(_PROC / "self/status", name)


def _field(path: Path, name: str) -> int:
    """Return a field in bytes of a file with lines such as ``VmRSS:  1024 kB``; 0 if the field is missing."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return 0
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith(f"{name}:")), 0)
