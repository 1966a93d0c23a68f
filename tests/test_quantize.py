"""8- and 4-bit weights: the memory really drops, and the quality holds."""

import math
from pathlib import Path

import pytest

from chatkit.catalogue import find
from chatkit.engines.opening import LoadOptions, open_engine
from chatkit.engines.weights import load_weights, weight_bytes
from chatkit.errors import Unsupported
from chatkit.loading.folder import folder_of
from chatkit.tokenizer import read_tokenizer

pytestmark = pytest.mark.model

TEXT = (
    "The tides are caused by the pull of the moon and, to a lesser degree, of the sun on the "
    "water of the oceans. As the earth turns, each coast passes through the two bulges of water, "
    "and so most places see two high tides and two low tides each day. When the sun, the moon and "
    "the earth stand in one line, at new moon and at full moon, the pulls add up, and the tides "
    "are higher than usual. Sailors have known this for thousands of years, long before anyone "
    "could explain it. They wrote tables of the tides for every harbour, and planned by them when "
    "to leave and when to come home. Today the same tables are computed by machines, to the "
    "minute, for years ahead, and yet storms can still raise the water a good deal higher than "
    "any table says."
)


@pytest.fixture(scope="module")
def checkpoint(default_model_home: Path) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CHATKIT_HOME", str(default_model_home))
        return folder_of(find("smollm2-135m")).checkpoint


@pytest.fixture(scope="module")
def whole(checkpoint: Path) -> tuple[int, float]:
    """Bytes and perplexity of the 32-bit weights."""
    return measure(checkpoint, None)


def measure(checkpoint: Path, quantize: str | None) -> tuple[int, float]:
    import torch

    model = load_weights(checkpoint, quantize)
    ids = torch.tensor([[token.id for token in read_tokenizer(checkpoint).encode(TEXT)]])
    with torch.inference_mode():
        logits = model(ids.to(model.device)).logits[0, :-1].float()
    losses = torch.nn.functional.cross_entropy(logits, ids[0, 1:].to(logits.device))
    return weight_bytes(model), math.exp(float(losses))


@pytest.mark.parametrize(
    ("quantize", "most_memory", "most_perplexity"), [("int8", 0.65, 1.03), ("int4", 0.40, 1.15)]
)
def test_memory_drops_and_quality_holds(
    checkpoint: Path,
    whole: tuple[int, float],
    quantize: str,
    most_memory: float,
    most_perplexity: float,
) -> None:
    size, perplexity = measure(checkpoint, quantize)
    print(
        f"{quantize}: {size / whole[0]:.3f} of the memory, {perplexity / whole[1]:.3f} of the "
        "perplexity"
    )
    assert size <= most_memory * whole[0]
    assert perplexity <= most_perplexity * whole[1]


@pytest.mark.slow
def test_quantize_alone_chooses_transformers(model_home: Path) -> None:
    engine = open_engine("smollm2-135m", LoadOptions(quantize="int8"))
    assert engine.resident_bytes < 0.65 * 4 * find("smollm2-135m").parameters


def test_the_embedded_engine_names_a_quantised_entry(model_home: Path) -> None:
    with pytest.raises(Unsupported, match="smollm2-135m-q4"):
        open_engine("smollm2-135m@llamacpp", LoadOptions(quantize="int8"))
