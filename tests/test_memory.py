"""The memory estimate: against published numbers, against SmolLM2's real bytes, and in itself."""

from dataclasses import asdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatkit.catalogue import Entry, catalogue, find
from chatkit.engines import decoding, llamacpp, llamacpp_server
from chatkit.errors import InputError, Unsupported
from chatkit.hardware import GIB, MIB, Device, Hardware, named_hardware
from chatkit.memory import (
    HEADROOM,
    Load,
    Quantization,
    Storage,
    Training,
    Workload,
    devices_needed,
    estimate,
    estimate_training,
    fitting_context,
    inference,
    kv_cache_bytes,
    load_of,
    offered,
    training_verdict,
    verdict,
    weight_bytes,
)
from chatkit.memory.training import adapter_parameters

GB = 1_000_000_000
SMOLLM2 = find("smollm2-135m")
LLAMA_7B = find("llama-2-7b-chat")
LLAMA_70B = find("llama-2-70b-chat")

storages = st.sampled_from(("f32", "f16", "q8_0", "q5_k_m", "q4_k_m", "q4_1", "int8", "nf4"))
entries = st.sampled_from(list(catalogue().values()))
contexts = st.integers(1, 1_000_000)
batches = st.integers(1, 64)


def laptop(free: int) -> Hardware:
    return Hardware((Device("CPU", "cpu", free, free),), cores=8, ram=free)


def card(free: int) -> Hardware:
    return Hardware((Device("card", "cuda", free, free),))


# Llama 2 against what others published

TORCHAO = "https://github.com/pytorch/ao/blob/03d01adc/torchao/quantization/README.md"
BITS_PER_WEIGHT = "https://github.com/ggml-org/llama.cpp/blob/b8c1476e/examples/quantize/README.md"
GGUF_7B = "https://huggingface.co/TheBloke/Llama-2-7B-Chat-GGUF"
GGUF_70B = "https://huggingface.co/TheBloke/Llama-2-70B-Chat-GGUF"
GPTQ_70B = "https://huggingface.co/TheBloke/Llama-2-70B-Chat-GPTQ/discussions/45"
MANNING = (
    "https://livebook.manning.com/learn/concepts/qlora--technique/quantization-and-fast-inference"
)
EMBEDDING = 32_000 * 4_096 * 2  # in 16 bits; torchao's table leaves the input embedding out


@pytest.mark.parametrize(
    ("storage", "published", "source"),
    [
        ("f16", 13.21 * GB + EMBEDDING, TORCHAO),
        ("int8", 6.62 * GB + EMBEDDING, TORCHAO),
        ("nf4", 3.60 * GIB, MANNING),
        ("q4_0", 3.83 * GB, GGUF_7B),
        ("q4_k_m", 4.08 * GB, GGUF_7B),
        ("q5_k_m", 4.78 * GB, GGUF_7B),
        ("q8_0", 7.16 * GB, GGUF_7B),
    ],
)
def test_llama_2_7b_weighs_what_is_published(
    storage: Storage, published: float, source: str
) -> None:
    assert weight_bytes(LLAMA_7B, storage, "cuda") == pytest.approx(published, rel=0.02), source


@pytest.mark.parametrize(
    ("name", "storage", "published"),
    [
        ("llama-2-7b-chat", "q4_k_m", 4.84),
        ("llama-2-7b-chat", "q5_k_m", 5.68),
        ("llama-2-7b-chat", "q6_k", 6.56),
        ("llama-2-13b-chat", "q4_k_m", 4.83),
        ("llama-2-70b-chat", "q4_k_m", 4.80),
        ("llama-2-70b-chat", "q5_k_m", 5.65),
    ],
)
def test_llama_2_has_the_published_bits_per_weight(
    name: str, storage: Storage, published: float
) -> None:
    bits = 8 * weight_bytes(find(name), storage) / find(name).parameters
    assert bits == pytest.approx(published, abs=0.01), BITS_PER_WEIGHT


def test_llama_2_70b_weighs_what_is_published() -> None:
    assert weight_bytes(LLAMA_70B, "f16") == pytest.approx(128.15 * GIB, rel=0.01), GPTQ_70B
    assert weight_bytes(LLAMA_70B, "q4_k_m") == pytest.approx(41.4 * GB, rel=0.01), GGUF_70B


def test_llama_2_7b_keeps_half_a_mebibyte_per_token() -> None:
    """llama.cpp's log in https://github.com/InftyAI/llmaz/pull/402: 2048.00 MiB at 4,096."""
    load = Load("llamacpp", "q4_0", 4096)
    assert kv_cache_bytes(LLAMA_7B.architecture, load) == 2048 * MIB


def test_lora_on_llama_2_7b_takes_what_torchtune_reports() -> None:
    """15.57 GB, with rank 8 on q and v, two examples of at most 512 tokens and checkpointing.

    https://github.com/pytorch/torchtune/blob/0e44fed1/docs/source/tutorials/qlora_finetune.rst
    https://github.com/pytorch/torchtune/blob/04dc3801/recipes/configs/llama2/7B_lora_single_device.yaml
    """
    entry = LLAMA_7B.model_copy(update={"lora_targets": ("q_proj", "v_proj")})
    needed = estimate_training(entry, Training("lora", rank=8, length=512, batch=2), "cuda")
    assert needed.total == pytest.approx(15.57 * GB, rel=0.15)


def test_lora_with_long_examples_takes_what_longlora_reports() -> None:
    """25.7 GB with 8,192 tokens: https://arxiv.org/abs/2309.12307, table 12, plain LoRA.

    As listed in https://huggingface.co/datasets/odyn-network/benchmark-finetune-lora-v1
    """
    entry = LLAMA_7B.model_copy(update={"context": 8192})
    needed = estimate_training(entry, Training("lora", rank=8, length=8192), "cuda")
    assert needed.total == pytest.approx(25.7 * GB, rel=0.15)


def test_training_all_weights_takes_what_is_published() -> None:
    """110 GB for Llama 2 7B.

    https://medium.com/polo-club-of-data-science/memory-requirements-for-fine-tuning-llama-2-80f366cba7f5
    """
    needed = estimate_training(LLAMA_7B, Training("full", length=512), "cuda")
    assert needed.total == pytest.approx(110 * GB, rel=0.15)


def test_qlora_on_llama_2_7b_takes_9_to_14_gb() -> None:
    """The range of the same page, on a card of 16 GB."""
    needed = estimate_training(LLAMA_7B, Training("qlora", length=1024, batch=4), "cuda")
    assert 9 * GB <= needed.total <= 14 * GB


# SmolLM2 against its real bytes


def test_the_gguf_of_smollm2_is_counted_to_the_byte() -> None:
    """The tensors of the published file: 66,355,200 in Q4_1, 30,081,024 in Q8_0, 140,544 in F32."""
    assert weight_bytes(SMOLLM2, "q4_1") == 66_355_200 + 30_081_024 + 140_544


@pytest.mark.parametrize(
    ("storage", "measured"),
    [("f32", 538_060_160), ("int8", 220_332_800), ("nf4", 160_702_544)],
)
def test_what_transformers_holds_of_smollm2_is_counted_within_a_thousandth(
    storage: Storage, measured: int
) -> None:
    """The storages of all parameters, buffers and scales, after loading on a CPU."""
    assert weight_bytes(SMOLLM2, storage, "cpu") == pytest.approx(measured, rel=0.001)


@pytest.mark.parametrize(
    ("context", "cache", "flash", "plain"), [(2048, 45.0, 8.32, 5.94), (8192, 180.0, 11.32, 20.94)]
)
def test_llamacpps_buffers_are_what_its_log_says(
    context: int, cache: float, flash: float, plain: float
) -> None:
    """`KV buffer size`, `compute buffer size` and `output buffer size` with 4 slots, in MiB."""
    needed = estimate(SMOLLM2, Load("llamacpp", "f16", context))
    assert needed.kv_cache == cache * MIB
    assert needed.activations / MIB == pytest.approx(max(flash, plain) + 0.75, rel=0.05)
    on_card = estimate(SMOLLM2, Load("llamacpp", "f16", context, kind="cuda"))
    assert on_card.activations / MIB == pytest.approx(flash + 0.75, rel=0.001)


def test_the_adapter_of_smollm2_has_as_many_weights_as_peft_makes() -> None:
    assert adapter_parameters(SMOLLM2, rank=16) == 4_884_480


def test_the_estimate_knows_how_the_engines_read_prompts() -> None:
    assert inference.SLOTS == llamacpp.SLOTS
    assert inference.BATCH_TOKENS == llamacpp_server.BATCH_TOKENS
    assert inference.PLAIN_BATCH_TOKENS == llamacpp_server.PLAIN_BATCH_TOKENS
    assert inference.PIECE_TOKENS == decoding.PIECE_TOKENS


# How a workload is loaded


@pytest.mark.parametrize(
    ("quantization", "engine", "storage"),
    [
        (None, "llamacpp", "f16"),
        ("none", "llamacpp", "f16"),
        ("int8", "transformers", "int8"),
        ("int4", "transformers", "nf4"),
        ("q4", "llamacpp", "q4_1"),
    ],
)
def test_each_quantisation_has_its_engine(
    quantization: Quantization | None, engine: str, storage: str
) -> None:
    load = load_of(SMOLLM2, Workload(quantization), "cpu")
    assert (load.engine, load.storage) == (engine, storage)


def test_a_model_with_a_quantised_gguf_only_is_unquantised_in_transformers() -> None:
    assert load_of(LLAMA_7B, Workload("none"), "cuda").storage == "bf16"
    assert load_of(LLAMA_7B, Workload("none"), "cpu").storage == "f32"
    assert load_of(LLAMA_7B, Workload(), "cuda").storage == "q4_k_m"


def test_the_window_is_the_models_own_but_at_most_8192() -> None:
    assert load_of(find("llama-2-7b-chat"), Workload(), "cpu").context == 4096
    assert load_of(find("llama-3.1-8b-instruct"), Workload(), "cpu").context == 8192


@pytest.mark.parametrize("context", [0, 8193])
def test_a_context_outside_the_window_is_refused(context: int) -> None:
    with pytest.raises(InputError, match="takes 1 to 8192"):
        load_of(SMOLLM2, Workload(context=context), "cpu")


def test_an_empty_batch_is_refused() -> None:
    with pytest.raises(InputError, match="at least one"):
        load_of(SMOLLM2, Workload(batch=0), "cpu")


def test_a_quantisation_without_files_is_refused_with_the_ones_there_are() -> None:
    with pytest.raises(Unsupported, match="choose one of none, int8, int4"):
        load_of(find("dialogpt-medium"), Workload("q4"), "cpu")


@given(entry=entries, kind=st.sampled_from(("cpu", "cuda", "mps")))
def test_every_model_of_the_catalogue_can_be_estimated(entry: Entry, kind: str) -> None:
    device = Hardware((Device("place", kind, 24 * GIB, 24 * GIB),))  # type: ignore[arg-type]
    for quantization in offered(entry):
        assert verdict(entry, device, Workload(quantization)).estimate.total > 0
    for method in ("lora", "qlora", "full"):
        run = Training(method, length=512)
        assert training_verdict(entry, device, run).estimate.total > 0


# What must hold for every model


@pytest.mark.lengthy
@given(entry=entries, storage=storages, context=contexts, batch=batches)
def test_the_parts_add_up(entry: Entry, storage: Storage, context: int, batch: int) -> None:
    needed = estimate(entry, Load("transformers", storage, context, batch))
    assert needed.total == sum(asdict(needed).values())
    assert all(part >= 0 for part in asdict(needed).values())


@given(entry=entries, engine=st.sampled_from(("llamacpp", "transformers")), context=contexts)
def test_more_context_never_takes_less(entry: Entry, engine: str, context: int) -> None:
    shorter, longer = (
        estimate(entry, Load(engine, "f16", tokens)).total  # type: ignore[arg-type]
        for tokens in (context, context + 1000)
    )
    assert shorter <= longer


@given(entry=entries, engine=st.sampled_from(("llamacpp", "transformers")), batch=batches)
def test_more_conversations_never_take_less(entry: Entry, engine: str, batch: int) -> None:
    fewer, more = (
        estimate(entry, Load(engine, "f16", 1024, conversations)).total  # type: ignore[arg-type]
        for conversations in (batch, batch + 1)
    )
    assert fewer <= more


@given(entry=entries)
def test_fewer_bits_weigh_less(entry: Entry) -> None:
    sizes = [weight_bytes(entry, storage) for storage in ("f32", "f16", "q8_0", "q6_k", "q4_k_m")]
    assert sizes == sorted(sizes, reverse=True)


@given(entry=entries, rank=st.integers(1, 256), length=st.integers(1, 500), batch=batches)
def test_training_more_never_takes_less(entry: Entry, rank: int, length: int, batch: int) -> None:
    base = estimate_training(entry, Training("lora", rank, length, batch))
    assert base.total == sum(asdict(base).values())
    for more in (
        Training("lora", rank + 1, length, batch),
        Training("lora", rank, length + 1, batch),
        Training("lora", rank, length, batch + 1),
        Training("full", rank, length, batch),
    ):
        assert base.total <= estimate_training(entry, more).total


def test_layers_with_a_window_keep_the_window_only() -> None:
    gemma = find("gemma-3-1b-it").architecture
    longer = kv_cache_bytes(gemma, Load("transformers", "bf16", 20_000, kind="cuda"))
    shorter = kv_cache_bytes(gemma, Load("transformers", "bf16", 10_000, kind="cuda"))
    full_layers, vector = 26 // 6, 256
    assert longer - shorter == 10_000 * full_layers * 2 * vector * 2


def test_checkpointing_saves_memory() -> None:
    kept = estimate_training(LLAMA_7B, Training(checkpointing=False))
    assert estimate_training(LLAMA_7B, Training()).activations < kept.activations


def test_examples_longer_than_the_window_are_refused() -> None:
    with pytest.raises(InputError, match="exceed"):
        estimate_training(LLAMA_7B, Training(length=4097))


def test_a_training_of_nothing_is_refused() -> None:
    with pytest.raises(InputError, match="rank"):
        Training(rank=0)


def test_an_unknown_adapter_target_is_named() -> None:
    with pytest.raises(Unsupported, match="dense_h_to_4h"):
        adapter_parameters(LLAMA_7B.model_copy(update={"lora_targets": ("dense_h_to_4h",)}), 8)


# Verdicts


def test_a_7b_model_fits_a_24_gb_card() -> None:
    answer = verdict(LLAMA_7B, named_hardware("24GB"), Workload("none"))
    assert (answer.outcome, str(answer), answer.devices) == ("fits", "fits", 1)


def test_a_70b_model_fits_two_80_gb_cards_with_its_layers_split() -> None:
    answer = verdict(LLAMA_70B, named_hardware("2x80GB"), Workload("none"))
    assert str(answer) == "fits with its layers over 2 cards"
    assert answer.devices == 2
    assert answer.estimate.weights > 80 * GIB


def test_a_70b_model_fits_one_80_gb_card_with_a_quantisation() -> None:
    answer = verdict(LLAMA_70B, named_hardware("80GB"), Workload("none"))
    assert str(answer) == "fits with --quantize int8"
    assert verdict(LLAMA_70B, named_hardware("80GB"), Workload("int8")).outcome == "fits"


def test_a_70b_model_does_not_fit_a_24_gb_card() -> None:
    answer = verdict(LLAMA_70B, named_hardware("24GB"))
    assert (answer.outcome, answer.devices, answer.advice) == ("does not fit", 0, "")


def test_a_shorter_context_is_advised_where_it_helps() -> None:
    entry = find("llama-3.1-8b-instruct")
    workload = Workload("q4", context=131_072)
    answer = verdict(entry, named_hardware("16GB"), workload)
    assert str(answer) == "fits with --context 65536"


def test_qlora_is_advised_where_lora_does_not_fit() -> None:
    answer = training_verdict(LLAMA_7B, named_hardware("12GB"), Training("lora"))
    assert str(answer) == "fits with QLoRA"


def test_shorter_examples_are_advised_where_qlora_alone_does_not_fit() -> None:
    answer = training_verdict(LLAMA_7B, named_hardware("8GB"), Training("lora", length=4096))
    assert str(answer) == "fits with QLoRA and examples of 1024 tokens"


def test_the_freest_cards_are_used_and_no_more_than_needed() -> None:
    sizes = (10 * GIB, 80 * GIB, 80 * GIB, 80 * GIB)
    cards = Hardware(tuple(Device("card", "cuda", size, size) for size in sizes))
    assert verdict(LLAMA_70B, cards, Workload("none")).devices == 2


def test_a_layer_is_not_split_between_cards() -> None:
    needed = estimate(LLAMA_7B, Load("transformers", "bf16", 512, kind="cuda"))
    layer = (needed.weights + needed.kv_cache) / 32
    own = needed.activations + needed.overhead
    half = int((16 * layer + own) / (1 - HEADROOM)) + MIB
    bit_less = int((15.9 * layer + own) / (1 - HEADROOM))
    pair = Hardware((Device("a", "cuda", half, half), Device("b", "cuda", half, half)))
    uneven = Hardware((Device("a", "cuda", half, half), Device("b", "cuda", bit_less, bit_less)))
    assert devices_needed(needed, pair, layers=32) == 2
    assert devices_needed(needed, uneven, layers=32) == 0


def test_a_mac_shares_its_memory_between_cpu_and_gpu() -> None:
    cpu = Device("Apple M3", "cpu", 16 * GIB, 14 * GIB)
    gpu = Device("Apple GPU", "mps", 12 * GIB, 12 * GIB)
    mac = Hardware((cpu, gpu), cores=8, ram=16 * GIB)
    assert verdict(LLAMA_7B, mac, Workload("none")).outcome == "fits with"
    assert verdict(LLAMA_7B, mac, Workload("q4")).outcome == "fits"


RANKS = {"does not fit": 0, "fits with": 1, "fits": 2}


@pytest.mark.lengthy
@given(entry=entries, free=st.integers(0, 200 * GIB), more=st.integers(0, 200 * GIB))
def test_more_memory_never_makes_the_verdict_worse(entry: Entry, free: int, more: int) -> None:
    for place in (laptop, card):
        tight, roomy = (verdict(entry, place(size)) for size in (free, free + more))
        assert RANKS[tight.outcome] <= RANKS[roomy.outcome]


@given(entry=entries, free=st.integers(0, 200 * GIB))
def test_what_fits_leaves_the_headroom_free(entry: Entry, free: int) -> None:
    answer = verdict(entry, card(free))
    if answer.outcome == "fits":
        assert answer.estimate.total <= free * (1 - HEADROOM)


@given(entry=entries, free=st.integers(GIB, 200 * GIB))
def test_advice_about_the_quantisation_is_true(entry: Entry, free: int) -> None:
    answer = verdict(entry, card(free), Workload(context=512))
    option, _, name = answer.advice.partition(" ")
    if option == "--quantize" and name in offered(entry):
        workload = Workload(name, context=512)
        assert verdict(entry, card(free), workload).outcome == "fits"


def test_the_default_context_takes_no_more_than_a_quarter_of_the_free_memory() -> None:
    assert fitting_context(SMOLLM2, 8192, free=8 * GIB) == 8192
    assert fitting_context(SMOLLM2, 8192, free=400 * MIB) == 4352
    assert kv_cache_bytes(SMOLLM2.architecture, Load("llamacpp", "f16", 4352)) <= 100 * MIB


def test_a_context_is_left_even_where_memory_is_short() -> None:
    assert fitting_context(SMOLLM2, 8192, free=MIB) == 512
    assert fitting_context(SMOLLM2, 100, free=MIB) == 100
