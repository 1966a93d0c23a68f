"""The estimate of a model's memory against what its process really takes."""

import subprocess
import sys
from pathlib import Path

import pytest

from chatkit.catalogue import find
from chatkit.memory import Workload, estimate, load_of

pytestmark = pytest.mark.model
SCRIPT = Path(__file__).parent / "measure_memory.py"


@pytest.mark.parametrize(
    ("name", "quantize", "context"),
    [
        ("smollm2-135m", None, 2048),
        pytest.param("smollm2-135m", None, 8192, marks=pytest.mark.slow),
        ("smollm2-135m-q4", None, 2048),
        ("smollm2-135m@transformers", None, 512),
        pytest.param("smollm2-135m@transformers", "int8", 512, marks=pytest.mark.slow),
        pytest.param("smollm2-135m@transformers", "int4", 512, marks=pytest.mark.slow),
    ],
)
def test_the_estimate_is_within_15_percent(
    model_home: Path, name: str, quantize: str | None, context: int
) -> None:
    command = [sys.executable, str(SCRIPT), name, quantize or "none", str(context)]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    measured = int(output.split()[-1])
    target, _, engine = name.partition("@")
    entry = find(target)
    workload = Workload(quantize, context, engine=engine or "llamacpp")
    estimated = estimate(entry, load_of(entry, workload, "cpu")).total
    print(f"{name} {quantize}: measured {measured / 1e6:.0f} MB, estimated {estimated / 1e6:.0f}")
    assert estimated == pytest.approx(measured, rel=0.15)
