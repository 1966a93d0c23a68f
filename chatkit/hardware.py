"""The hardware that models run on: probed from this machine, or taken by name."""

import os
import platform
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import psutil

from chatkit.errors import InputError

Kind = Literal["cpu", "cuda", "mps"]

MIB = 2**20
GIB = 2**30
# macOS lets its GPU wire about three quarters of the memory that it shares with the CPU.
_METAL_SHARE = 0.75
_SMI_SECONDS = 10
_SMI_QUERY = (
    "--query-gpu=index,uuid,name,memory.total,memory.free",
    "--format=csv,noheader,nounits",
)


@dataclass(frozen=True, slots=True)
class Device:
    """A place that can hold a model.

    Args:
        name: what its maker calls it.
        kind: cpu (the RAM), cuda (an NVIDIA card) or mps (Apple's GPU, in unified memory).
        memory: all its bytes.
        free: the bytes that nobody uses now.
    """

    name: str
    kind: Kind
    memory: int
    free: int


@dataclass(frozen=True, slots=True)
class Hardware:
    """The devices of one machine.

    Args:
        devices: the CPU and the accelerators; hardware taken by name has accelerators only.
        cores: how many CPU cores this process may use; 0 where only a name is known.
        ram: bytes of main memory that this process may use; 0 where only a name is known.
        notes: what could not be found out, one sentence each.
    """

    devices: tuple[Device, ...]
    cores: int = 0
    ram: int = 0
    notes: tuple[str, ...] = ()

    @property
    def places(self) -> tuple[Device, ...]:
        """Where models go: the accelerators with the most free memory first, else the RAM."""
        accelerators = [device for device in self.devices if device.kind != "cpu"]
        return tuple(sorted(accelerators or self.devices, key=lambda device: -device.free))

    @property
    def kind(self) -> Kind:
        """The kind of the places."""
        return self.places[0].kind

    @property
    def free(self) -> int:
        """Free bytes of all places together."""
        return sum(device.free for device in self.places)

    def __str__(self) -> str:
        """One line for a person."""
        alike = Counter(self.devices)
        return "; ".join(self._device_line(device, alike[device]) for device in alike)

    def _device_line(self, device: Device, count: int) -> str:
        times = f"{count} x " if count > 1 else ""
        cores = f", {self.cores} cores" if device.kind == "cpu" else ""
        sizes = f"{memory_text(device.memory)}, {memory_text(device.free)} free"
        return f"{times}{device.name}{cores} ({sizes})"


def probe(environment: Mapping[str, str] = os.environ) -> Hardware:
    """Look at this machine: cores, RAM within its cgroup, NVIDIA cards, Apple's GPU.

    PyTorch is not imported. Cards that `CUDA_VISIBLE_DEVICES` hides are not counted.

    Args:
        environment: the environment variables.
    """
    memory = psutil.virtual_memory()
    limits = [(memory.total, memory.available), *cgroup_memory(Path("/"))]
    ram, free = min(limit for limit, _ in limits), min(free for _, free in limits)
    cpu = Device(_cpu_name(), "cpu", ram, free)
    cards, notes = _nvidia_cards(environment)
    return Hardware((cpu, *_apple_gpu(ram, free), *cards), core_count(), ram, notes)


def named_hardware(name: str) -> Hardware:
    """Take hardware by its name: `24GB` is one card of 24 GiB, `2x80GB` two of 80 GiB.

    Raises:
        InputError: the name is not of this form.
    """
    match = re.fullmatch(r"(?:([1-9]\d?)x)?([1-9]\d{0,3})GB", name)
    if match is None:
        raise InputError(f"No hardware is called {name!r}; write it as 24GB, 80GB or 2x80GB.")
    count, size = int(match[1] or 1), int(match[2]) * GIB
    return Hardware((Device(f"{match[2]} GB card", "cuda", size, size),) * count)


def available_memory() -> int:
    """Give the free bytes of the places where models go on this machine."""
    return probe().free


def memory_text(size: int) -> str:
    """Write a number of bytes for a person, in powers of 1024: `12.6 GiB`, `93 MiB`."""
    return f"{size / GIB:.1f} GiB" if size >= GIB else f"{size / MIB:.0f} MiB"


def cgroup_memory(root: Path) -> Iterator[tuple[int, int]]:
    """Give limit and free bytes of each control group around this process that has a limit.

    Both versions are read (https://docs.kernel.org/admin-guide/cgroup-v2.html and
    https://docs.kernel.org/admin-guide/cgroup-v1/memory.html). Cached file pages that the kernel
    would drop count as free.

    Args:
        root: the root of the file system, so that tests can bring their own.
    """
    membership = root / "proc/self/cgroup"
    if not membership.is_file():
        return
    mounted = root / "sys/fs/cgroup"
    for line in membership.read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            yield from _limits(mounted, path, "memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            yield from _limits(
                mounted / "memory",
                path,
                "memory.limit_in_bytes",
                "memory.usage_in_bytes",
                "total_inactive_file",
            )


def _limits(
    mounted: Path, path: str, limit: str, usage: str, droppable: str
) -> Iterator[tuple[int, int]]:
    """Read the limits of a group and of its parents, as far as they are visible here."""
    group = mounted / path.strip("/")
    for folder in (group, *group.parents):
        if not folder.is_relative_to(mounted):
            return
        most = _number(folder / limit)
        # Version 1 writes an unset limit as the largest multiple of a page below 2^63.
        if most is None or most >= 2**62:
            continue
        used = (_number(folder / usage) or 0) - _statistic(folder / "memory.stat", droppable)
        yield most, max(most - max(used, 0), 0)


def _number(path: Path) -> int | None:
    text = path.read_text().strip() if path.is_file() else ""
    return int(text) if text.isdigit() else None


def _statistic(path: Path, name: str) -> int:
    lines = path.read_text().splitlines() if path.is_file() else []
    pairs = (line.split() for line in lines)
    return next((int(value) for key, value in pairs if key == name), 0)


def core_count() -> int:
    """Count the processor cores that this process may use."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _cpu_name() -> str:
    information = Path("/proc/cpuinfo")
    text = information.read_text() if information.is_file() else ""
    match = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return match[1].strip() if match else platform.processor() or platform.machine()


def _apple_gpu(ram: int, free: int) -> tuple[Device, ...]:
    if sys.platform != "darwin" or platform.machine() != "arm64":
        return ()
    share = int(ram * _METAL_SHARE)
    return (Device("Apple GPU, unified memory", "mps", share, min(free, share)),)


def _nvidia_cards(environment: Mapping[str, str]) -> tuple[tuple[Device, ...], tuple[str, ...]]:
    """Ask the driver's own tool for the cards; a machine without it has none."""
    program = shutil.which("nvidia-smi", path=environment.get("PATH"))
    if program is None:
        return (), ()
    try:
        answer = subprocess.run(
            [program, *_SMI_QUERY], capture_output=True, text=True, timeout=_SMI_SECONDS, check=True
        )
    except (OSError, subprocess.SubprocessError) as error:
        return (), (f"nvidia-smi failed ({error}), so no NVIDIA card is counted.",)
    rows = [[cell.strip() for cell in line.split(",")] for line in answer.stdout.splitlines()]
    visible = [row for row in rows if len(row) == 5 and _is_visible(row[0], row[1], environment)]
    cards = tuple(_card(row) for row in visible if row[3].isdigit() and row[4].isdigit())
    if len(cards) == len(visible):
        return cards, ()
    return cards, ("A card does not tell its memory to nvidia-smi, so it is not counted.",)


def _card(row: list[str]) -> Device:
    return Device(row[2], "cuda", int(row[3]) * MIB, int(row[4]) * MIB)


def _is_visible(index: str, uuid: str, environment: Mapping[str, str]) -> bool:
    """Apply CUDA's own rule: indices or beginnings of UUIDs, separated by commas."""
    listed = environment.get("CUDA_VISIBLE_DEVICES")
    if listed is None:
        return True
    chosen = [item.strip() for item in listed.split(",") if item.strip()]
    return any(item == index or (item[0].isalpha() and uuid.startswith(item)) for item in chosen)
