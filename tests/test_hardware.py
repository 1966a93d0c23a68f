"""Hardware: what this machine has, within its limits, or what a name stands for."""

from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatkit.errors import InputError
from chatkit.hardware import (
    GIB,
    MIB,
    Device,
    Hardware,
    available_memory,
    cgroup_memory,
    memory_text,
    named_hardware,
    probe,
)

CPU = Device("EPYC", "cpu", 64 * GIB, 32 * GIB)


def test_this_machine_has_cores_and_memory() -> None:
    hardware = probe()
    assert hardware.cores >= 1
    assert hardware.devices[0].kind == "cpu"
    assert 0 < hardware.devices[0].free <= hardware.ram <= psutil.virtual_memory().total


def test_available_memory_is_what_the_places_have_free() -> None:
    assert 0 < available_memory() <= sum(device.memory for device in probe().places)


def test_one_card_by_name() -> None:
    assert named_hardware("24GB").places == (Device("24 GB card", "cuda", 24 * GIB, 24 * GIB),)


def test_several_cards_by_name() -> None:
    hardware = named_hardware("2x80GB")
    assert [device.memory for device in hardware.places] == [80 * GIB, 80 * GIB]
    assert hardware.free == 160 * GIB
    assert hardware.kind == "cuda"


@pytest.mark.parametrize(
    "name", ["", "24", "GB", "0GB", "0x24GB", "x24GB", "24gb", "24 GB", "A100"]
)
def test_other_names_are_refused_with_the_form(name: str) -> None:
    with pytest.raises(InputError, match="write it as 24GB, 80GB or 2x80GB"):
        named_hardware(name)


def test_models_go_to_the_accelerators_the_freest_first() -> None:
    busy = Device("RTX 4090", "cuda", 24 * GIB, 2 * GIB)
    idle = Device("RTX 4090", "cuda", 24 * GIB, 23 * GIB)
    hardware = Hardware((CPU, busy, idle), cores=8, ram=64 * GIB)
    assert hardware.places == (idle, busy)
    assert hardware.free == 25 * GIB


def test_without_an_accelerator_models_go_to_main_memory() -> None:
    assert Hardware((CPU,), cores=8, ram=64 * GIB).places == (CPU,)


def test_hardware_reads_as_one_line() -> None:
    card = Device("H100", "cuda", 80 * GIB, 79 * GIB)
    assert str(Hardware((CPU, card, card), cores=8)) == (
        "EPYC, 8 cores (64.0 GiB, 32.0 GiB free); 2 x H100 (80.0 GiB, 79.0 GiB free)"
    )


def test_sizes_are_written_in_powers_of_1024() -> None:
    assert memory_text(93 * MIB) == "93 MiB"
    assert memory_text(13_476_831_232) == "12.6 GiB"


# Control groups


def write(path: Path, text: str | int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{text}\n")


def test_version_2_limits_what_is_free_and_cached_files_count_as_free(tmp_path: Path) -> None:
    write(tmp_path / "proc/self/cgroup", "0::/system.slice/job")
    group = tmp_path / "sys/fs/cgroup/system.slice/job"
    write(group / "memory.max", 4 * GIB)
    write(group / "memory.current", 3 * GIB)
    write(group / "memory.stat", f"anon {GIB}\ninactive_file {2 * GIB}")
    assert list(cgroup_memory(tmp_path)) == [(4 * GIB, 3 * GIB)]


def test_a_parent_group_limits_too(tmp_path: Path) -> None:
    write(tmp_path / "proc/self/cgroup", "0::/pod/container")
    write(tmp_path / "sys/fs/cgroup/pod/container/memory.max", "max")
    write(tmp_path / "sys/fs/cgroup/pod/memory.max", 2 * GIB)
    write(tmp_path / "sys/fs/cgroup/pod/memory.current", GIB // 2)
    assert list(cgroup_memory(tmp_path)) == [(2 * GIB, 3 * GIB // 2)]


def test_version_1_is_read_at_the_mount_when_the_path_is_of_the_host(tmp_path: Path) -> None:
    write(tmp_path / "proc/self/cgroup", "5:cpu,cpuacct:/docker/1f\n4:memory:/docker/1f\n0::/")
    group = tmp_path / "sys/fs/cgroup/memory"
    write(group / "memory.limit_in_bytes", 8 * GIB)
    write(group / "memory.usage_in_bytes", 5 * GIB)
    write(group / "memory.stat", f"inactive_file 0\ntotal_inactive_file {GIB}")
    assert list(cgroup_memory(tmp_path)) == [(8 * GIB, 4 * GIB)]


def test_version_1_without_a_limit_does_not_limit(tmp_path: Path) -> None:
    write(tmp_path / "proc/self/cgroup", "4:memory:/")
    write(tmp_path / "sys/fs/cgroup/memory/memory.limit_in_bytes", 9223372036854771712)
    assert list(cgroup_memory(tmp_path)) == []


def test_a_system_without_control_groups_does_not_limit(tmp_path: Path) -> None:
    assert list(cgroup_memory(tmp_path)) == []


@pytest.mark.lengthy
@given(limit=st.integers(0, 2**40), used=st.integers(0, 2**40), cached=st.integers(0, 2**40))
def test_free_lies_between_nothing_and_the_limit(
    tmp_path_factory: pytest.TempPathFactory, limit: int, used: int, cached: int
) -> None:
    root = tmp_path_factory.mktemp("root")
    write(root / "proc/self/cgroup", "0::/")
    write(root / "sys/fs/cgroup/memory.max", limit)
    write(root / "sys/fs/cgroup/memory.current", used)
    write(root / "sys/fs/cgroup/memory.stat", f"inactive_file {cached}")
    [(most, free)] = cgroup_memory(root)
    assert most == limit
    assert 0 <= free <= limit


# NVIDIA cards

TWO_CARDS = """\
0, GPU-aaaa, NVIDIA H100 80GB HBM3, 81559, 80000
1, GPU-bbbb, NVIDIA H100 80GB HBM3, 81559, 500
"""


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """An environment in which nvidia-smi prints the file `cards`."""
    script = tmp_path / "nvidia-smi"
    script.write_text(f'#!/bin/sh\nwhile read -r line; do echo "$line"; done < {tmp_path}/cards\n')
    script.chmod(0o755)
    (tmp_path / "cards").write_text(TWO_CARDS)
    return {"PATH": str(tmp_path)}


def cards(environment: dict[str, str]) -> list[Device]:
    return [device for device in probe(environment).devices if device.kind == "cuda"]


def test_cards_come_from_the_drivers_own_tool(environment: dict[str, str]) -> None:
    name = "NVIDIA H100 80GB HBM3"
    assert cards(environment) == [
        Device(name, "cuda", 81559 * MIB, 80000 * MIB),
        Device(name, "cuda", 81559 * MIB, 500 * MIB),
    ]


@pytest.mark.parametrize(
    ("visible", "free"),
    [("1", [500]), ("GPU-aa", [80000]), ("0,1", [80000, 500]), ("", []), ("-1", [])],
)
def test_hidden_cards_are_not_counted(
    environment: dict[str, str], visible: str, free: list[int]
) -> None:
    seen = cards(environment | {"CUDA_VISIBLE_DEVICES": visible})
    assert [device.free for device in seen] == [size * MIB for size in free]


def test_a_machine_without_the_tool_has_no_cards(tmp_path: Path) -> None:
    hardware = probe({"PATH": str(tmp_path)})
    assert all(device.kind != "cuda" for device in hardware.devices)
    assert hardware.notes == ()


def test_a_tool_that_fails_is_told(tmp_path: Path) -> None:
    script = tmp_path / "nvidia-smi"
    script.write_text("#!/bin/sh\nexit 9\n")
    script.chmod(0o755)
    hardware = probe({"PATH": str(tmp_path)})
    assert all(device.kind != "cuda" for device in hardware.devices)
    assert "no NVIDIA card is counted" in hardware.notes[0]


def test_a_card_that_hides_its_memory_is_told(tmp_path: Path, environment: dict[str, str]) -> None:
    (tmp_path / "cards").write_text("0, GPU-aaaa, NVIDIA GB10, [N/A], [N/A]\n")
    hardware = probe(environment)
    assert cards(environment) == []
    assert "is not counted" in hardware.notes[0]
