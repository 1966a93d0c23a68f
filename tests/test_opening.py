"""Opening models by every kind of name, and what is said when a file is not what it should be."""

import asyncio
import json
import shutil
from pathlib import Path

import pytest

from chatkit.engine import complete
from chatkit.engines.llamacpp import LlamaCppEngine
from chatkit.engines.opening import LoadOptions, memory_needed, open_engine
from chatkit.engines.transformers import TransformersEngine
from chatkit.errors import InputError, ModelFileError, NotEnoughMemory, Unsupported
from chatkit.loading.folder import ModelFolder
from chatkit.messages import user
from chatkit.models import Models
from chatkit.naming import parse_name
from chatkit.prompt import build_prompt
from chatkit.sampling import Sampling

pytestmark = pytest.mark.anyio
GREEDY = Sampling(temperature=0, max_tokens=12)


@pytest.fixture
def pulled(model_home: Path) -> ModelFolder:
    return ModelFolder(model_home / "models" / "smollm2-135m")


@pytest.mark.parametrize(
    ("text", "kind", "target", "engine"),
    [
        ("smollm2-135m", "catalogue", "smollm2-135m", None),
        ("smollm2-135m@transformers", "catalogue", "smollm2-135m", "transformers"),
        ("org/name", "hub", "org/name", None),
        ("org/name@transformers", "hub", "org/name", "transformers"),
        ("scripted:", "scripted", "", None),
        ("/tmp@transformers", "path", "/tmp", "transformers"),
    ],
)
def test_a_name_says_what_it_names(text: str, kind: str, target: str, engine: str | None) -> None:
    name = parse_name(text)
    assert (name.kind, name.target, name.engine) == (kind, target, engine)


def test_an_unknown_engine_is_refused() -> None:
    with pytest.raises(InputError, match="llamacpp or transformers"):
        parse_name("smollm2-135m@vllm")


@pytest.mark.lengthy
@pytest.mark.parametrize("content", [b"", b"hello", b"GGUF" + bytes(100)])
def test_a_file_that_is_no_gguf_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.gguf").write_bytes(content)
    with pytest.raises(ModelFileError, match="not a whole GGUF"):
        open_engine(str(tmp_path / "model.gguf"))


@pytest.mark.model
def test_a_gguf_cut_short_is_refused(pulled: ModelFolder, tmp_path: Path) -> None:
    with pulled.gguf.open("rb") as whole:
        (tmp_path / "cut.gguf").write_bytes(whole.read(20_000_000))
    with pytest.raises(ModelFileError, match="not a whole GGUF"):
        open_engine(str(tmp_path / "cut.gguf"))


@pytest.mark.model
async def test_a_gguf_opens_by_its_path(pulled: ModelFolder) -> None:
    engine = open_engine(str(pulled.path / "model.q4_1.gguf"))
    prompt = build_prompt(engine.template, [user("What is the capital of Japan?")])
    assert "Tokyo" in (await complete(engine, prompt, GREEDY))[0]
    await engine.close()


@pytest.mark.model
async def test_a_checkpoint_opens_by_its_path(pulled: ModelFolder) -> None:
    engine = open_engine(str(pulled.checkpoint))
    prompt = build_prompt(engine.template, [user("What is the capital of Japan?")])
    assert "Tokyo" in (await complete(engine, prompt, GREEDY))[0]
    await engine.close()


def test_a_folder_without_a_model_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"config\.json"):
        open_engine(str(tmp_path))


@pytest.mark.model
def test_a_corrupt_checkpoint_is_refused(pulled: ModelFolder, tmp_path: Path) -> None:
    shutil.copytree(pulled.checkpoint, tmp_path / "copy")
    (tmp_path / "copy" / "model.safetensors").write_bytes(b"nonsense")
    with pytest.raises(ModelFileError, match="pull the model again"):
        open_engine(str(tmp_path / "copy"))


@pytest.fixture
def adapter(pulled: ModelFolder, tmp_path: Path) -> Path:
    """A LoRA adapter that was moved far enough to change every answer."""
    import torch
    from peft import LoraConfig, get_peft_model

    from chatkit.engines.weights import load_weights

    config = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    model = get_peft_model(load_weights(pulled.checkpoint), config)
    torch.manual_seed(0)
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.5)
    model.peft_config["default"].base_model_name_or_path = "smollm2-135m"
    model.save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter"


@pytest.mark.slow
@pytest.mark.model
async def test_an_adapter_folder_opens_on_its_base(
    adapter: Path, transformers: TransformersEngine
) -> None:
    engine = open_engine(str(adapter))
    prompt = build_prompt(engine.template, [user("What is the capital of Japan?")])
    tuned, _ = await complete(engine, prompt, GREEDY)
    assert tuned != (await complete(transformers, prompt, GREEDY))[0]
    assert engine.template.identity == transformers.template.identity
    await engine.close()


@pytest.mark.model
async def test_an_adapter_and_its_base_say_the_same_at_once_on_the_embedded_engine(
    adapter: Path, transformers: TransformersEngine
) -> None:
    options = LoadOptions(context=1024, adapters=(("moved", adapter),))
    embedded, tuned = open_engine("smollm2-135m", options), open_engine(str(adapter))
    assert isinstance(embedded, LlamaCppEngine)
    prompt = build_prompt(tuned.template, [user("What is the capital of Japan?")])

    async def said(adapter: str | None) -> str:
        return "".join([delta.text async for delta in embedded.stream(prompt, GREEDY, adapter)])

    both = await asyncio.gather(said(None), said("moved"))

    assert both == [(await complete(engine, prompt, GREEDY))[0] for engine in (transformers, tuned)]
    await embedded.close()
    await tuned.close()


@pytest.mark.model
def test_an_adapter_of_another_base_is_refused(adapter: Path) -> None:
    import safetensors.torch

    weights = safetensors.torch.load_file(adapter / "adapter_model.safetensors")
    other = {name: weight.repeat(2, 2) for name, weight in weights.items()}
    safetensors.torch.save_file(other, adapter / "adapter_model.safetensors")
    with pytest.raises(ModelFileError, match="does not fit this model"):
        open_engine(str(adapter))


@pytest.mark.model
def test_a_corrupt_adapter_is_refused(adapter: Path) -> None:
    (adapter / "adapter_model.safetensors").write_bytes(b"nonsense")
    with pytest.raises(ModelFileError, match="adapter"):
        open_engine(str(adapter))


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ("{", "cannot be read"),
        ('{"peft_type": "LORA"}', "cannot be read"),
        (
            json.dumps(
                {"peft_type": "IA3", "base_model_name_or_path": "x", "r": 1, "target_modules": []}
            ),
            "only LoRA",
        ),
    ],
)
def test_a_broken_adapter_configuration_is_refused(
    tmp_path: Path, config: str, sentence: str
) -> None:
    (tmp_path / "adapter_config.json").write_text(config)
    with pytest.raises(ModelFileError, match=sentence):
        open_engine(str(tmp_path))


@pytest.mark.model
@pytest.mark.parametrize("name", ["org/name@llamacpp", "{checkpoint}@llamacpp"])
def test_a_checkpoint_on_the_embedded_engine_is_refused(pulled: ModelFolder, name: str) -> None:
    with pytest.raises(Unsupported, match="leave @llamacpp out"):
        open_engine(name.format(checkpoint=pulled.checkpoint))


@pytest.mark.model
def test_a_context_for_the_research_engine_is_refused(pulled: ModelFolder) -> None:
    with pytest.raises(Unsupported, match="only the embedded engine"):
        open_engine("smollm2-135m@transformers", LoadOptions(context=512))


async def test_too_little_memory_is_refused_before_loading() -> None:
    models = Models(budget=100 * 2**20)
    with pytest.raises(NotEnoughMemory, match="--force"):
        async with models.use("llama-2-7b-chat"):
            pass


def test_the_need_grows_with_the_window_and_shrinks_with_quantisation() -> None:
    name = "smollm2-135m@transformers"
    whole = memory_needed(name, LoadOptions())
    assert memory_needed(name, LoadOptions(quantize="int8")) < whole
    short = memory_needed("smollm2-135m", LoadOptions(context=512))
    assert short < memory_needed("smollm2-135m", LoadOptions(context=8192))


@pytest.mark.model
@pytest.mark.parametrize("context", [0, 9000])
def test_a_window_that_the_model_does_not_have_is_refused(model_home: Path, context: int) -> None:
    with pytest.raises(InputError, match="takes 1 to 8192"):
        open_engine("smollm2-135m", LoadOptions(context=context))
