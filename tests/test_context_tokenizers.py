"""Invariant 4 over generated conversations, with tokenizers of four kinds."""

import json
from importlib.util import find_spec
from pathlib import Path

import pytest
from conversations import conversations
from hypothesis import HealthCheck, given, settings
from planning import Asked, asked, check
from sentencepiece import SentencePieceProcessor
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

from chatkit.catalogue import find
from chatkit.loading.folder import require_pulled
from chatkit.loading.gguf_tokenizer import (
    BYTE,
    CONTROL,
    NORMAL,
    PROBES,
    UNKNOWN,
    write_tokenizer,
)
from chatkit.template import ChatTemplate
from chatkit.tokenizer import Tokenizer, read_tokenizer

many = settings(
    max_examples=100,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

INST = (
    "{{ bos_token }}{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Roles must alternate.') }}{% endif %}"
    "{% if m.role == 'user' %}[INST] {{ m.content | trim }} [/INST]"
    "{% else %} {{ m.content | trim }}{{ eos_token }}{% endif %}{% endfor %}"
)
INST_WITH_SYSTEM = (
    "{{ bos_token }}{% for m in messages %}"
    "{% if m.role == 'system' %}[SYSTEM_PROMPT]{{ m.content }}[/SYSTEM_PROMPT]"
    "{% elif m.role == 'user' %}[INST]{{ m.content }}[/INST]"
    "{% elif m.role == 'tool' %}[TOOL_RESULTS]{{ m.content }}[/TOOL_RESULTS]"
    "{% else %}{{ m.content }}{{ eos_token }}{% endif %}{% endfor %}"
)
ZEPHYR = (
    "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}</s>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)


def mistral_model(version: str) -> Path:
    """A SentencePiece model that Mistral publishes, from its package's data."""
    spec = find_spec("mistral_common")
    assert spec and spec.origin
    (found,) = (Path(spec.origin).parent / "data").glob(f"*.model.{version}")
    return found


def mistral_tokenizer(version: str, folder: Path) -> Tokenizer:
    """Written in the way in which a GGUF's tokenizer is."""
    model = SentencePieceProcessor(model_file=str(mistral_model(version)))
    ids = range(model.GetPieceSize())

    def kind(id: int) -> int:
        if model.IsUnknown(id):
            return UNKNOWN
        return CONTROL if model.IsControl(id) else BYTE if model.IsByte(id) else NORMAL

    write_tokenizer(
        {
            "general.architecture": "llama",
            "llama.context_length": 32768,
            "tokenizer.ggml.model": "llama",
            "tokenizer.ggml.tokens": [model.IdToPiece(id) for id in ids],
            "tokenizer.ggml.scores": [model.GetScore(id) for id in ids],
            "tokenizer.ggml.token_type": [kind(id) for id in ids],
            "tokenizer.ggml.bos_token_id": model.bos_id(),
            "tokenizer.ggml.eos_token_id": model.eos_id(),
            "tokenizer.ggml.unknown_token_id": model.unk_id(),
        },
        folder,
    )
    return read_tokenizer(folder)


@pytest.fixture(scope="module")
def mistral_1(tmp_path_factory: pytest.TempPathFactory) -> ChatTemplate:
    """`[INST]` is plain text here; the template trims, wants turns and takes no system prompt."""
    return ChatTemplate(mistral_tokenizer("v1", tmp_path_factory.mktemp("v1")), INST)


@pytest.fixture(scope="module")
def mistral_7(tmp_path_factory: pytest.TempPathFactory) -> ChatTemplate:
    """`[INST]` is a control token, and the system prompt has control tokens of its own."""
    return ChatTemplate(mistral_tokenizer("v7", tmp_path_factory.mktemp("v7")), INST_WITH_SYSTEM)


@pytest.fixture(scope="module")
def trained() -> ChatTemplate:
    """A Unigram tokenizer trained here, with control tokens that swallow white space."""
    special = ["<unk>", "</s>", "<|user|>", "<|assistant|>", "<|system|>", "<|tool|>"]
    backend = Backend(models.Unigram())
    backend.normalizer = normalizers.NFKC()
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    backend.decoder = decoders.Metaspace(prepend_scheme="first")
    trainer = trainers.UnigramTrainer(
        vocab_size=600, special_tokens=special, unk_token="<unk>", show_progress=False
    )
    backend.train_from_iterator([m.content for said in conversations() for m in said], trainer)
    definition = json.loads(backend.to_str())
    for token in definition["added_tokens"]:
        token["rstrip"] = token["content"].startswith("<|")
        token["lstrip"] = token["content"] == "</s>"
    config = {"eos_token": "</s>", "unk_token": "<unk>"}
    return ChatTemplate(Tokenizer(json.dumps(definition), config, ZEPHYR))


@pytest.fixture(scope="module")
def smollm2(default_model_home: Path) -> ChatTemplate:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CHATKIT_HOME", str(default_model_home))
        return ChatTemplate(read_tokenizer(require_pulled(find("smollm2-135m")).tokenizer))


@pytest.mark.lengthy
@pytest.mark.parametrize("version", ["v1", "v7"])
def test_mistrals_tokenizer_splits_as_sentencepiece_does(version: str, tmp_path: Path) -> None:
    theirs = SentencePieceProcessor(model_file=str(mistral_model(version)))
    ours = mistral_tokenizer(version, tmp_path)
    # SentencePiece puts its space in front of a space too; Metaspace and transformers do not.
    for probe in (probe for probe in PROBES if not probe.startswith(" ")):
        assert [token.id for token in ours.encode(probe)] == theirs.encode(probe)


@pytest.mark.model
@many
@given(asked())
def test_smollm2_never_overflows_nor_cuts_a_turn(smollm2: ChatTemplate, asked: Asked) -> None:
    check(smollm2, asked)


@pytest.mark.lengthy
@many
@given(asked(plain=True))
def test_mistral_v1_never_overflows_nor_cuts_a_turn(mistral_1: ChatTemplate, asked: Asked) -> None:
    check(mistral_1, asked)


@pytest.mark.lengthy
@many
@given(asked())
def test_mistral_v7_never_overflows_nor_cuts_a_turn(mistral_7: ChatTemplate, asked: Asked) -> None:
    check(mistral_7, asked)


@pytest.mark.lengthy
@many
@given(asked())
def test_a_trained_unigram_never_overflows_nor_cuts_a_turn(
    trained: ChatTemplate, asked: Asked
) -> None:
    check(trained, asked)
