"""The same ids as transformers and llama.cpp give, token for token."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conversations import conversations
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, pre_tokenizers, trainers

from chatkit.catalogue import find
from chatkit.loading.folder import ModelFolder, require_pulled
from chatkit.loading.gguf_tokenizer import PROBES
from chatkit.loading.llamacpp_library import LlamaCppTokenizer, llamacpp_tokenizer
from chatkit.messages import Message
from chatkit.template import ChatTemplate
from chatkit.tokenizer import read_tokenizer

SAID = conversations()
every_conversation = pytest.mark.parametrize("said", SAID, ids=range(len(SAID)))
LLAMA_2 = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'assistant' %} {{ m.content | trim }} "
    "{{ eos_token }}{% else %}[INST] {{ m.content | trim }} [/INST]{% endif %}{% endfor %}"
)
ZEPHYR = (
    "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}</s>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)


def as_dictionaries(said: tuple[Message, ...]) -> list[dict[str, str]]:
    return [{"role": message.role, "content": message.content} for message in said]


def test_there_are_at_least_forty_conversations() -> None:
    assert len(SAID) >= 40


@pytest.fixture(scope="module")
def pulled(default_model_home: Path) -> ModelFolder:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CHATKIT_HOME", str(default_model_home))
        return require_pulled(find("smollm2-135m"))


@pytest.fixture(scope="module")
def smollm2(pulled: ModelFolder) -> ChatTemplate:
    return ChatTemplate(read_tokenizer(pulled.tokenizer))


@pytest.fixture(scope="module")
def theirs(pulled: ModelFolder) -> Iterator[LlamaCppTokenizer]:
    with llamacpp_tokenizer(pulled.gguf) as tokenizer:
        yield tokenizer


@pytest.fixture(scope="module")
def transformers_tokenizer(pulled: ModelFolder) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(pulled.tokenizer)


@pytest.mark.model
@every_conversation
def test_smollm2_in_transformers(
    smollm2: ChatTemplate, transformers_tokenizer: Any, said: tuple[Message, ...]
) -> None:
    ids = transformers_tokenizer.apply_chat_template(
        as_dictionaries(said), add_generation_prompt=True, return_dict=False
    )
    assert list(smollm2.render(said)) == ids


@pytest.mark.model
@every_conversation
def test_smollm2_in_llamacpp(
    smollm2: ChatTemplate, theirs: LlamaCppTokenizer, said: tuple[Message, ...]
) -> None:
    text = theirs.chat_text(as_dictionaries(said))
    assert smollm2.text(said) == text
    assert list(smollm2.render(said)) == theirs.encode(text, specials=True)


@pytest.mark.model
@pytest.mark.parametrize("probe", PROBES)
def test_smollm2_tokens_of_plain_text(
    smollm2: ChatTemplate, theirs: LlamaCppTokenizer, probe: str
) -> None:
    assert [token.id for token in smollm2.tokenizer.encode(probe)] == theirs.encode(probe)


@pytest.fixture(scope="module", params=[LLAMA_2, ZEPHYR], ids=["llama 2", "zephyr"])
def sentencepiece_like(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A tokenizer of the Llama 2 kind, trained here: spaces as ▁, unknown bytes one by one."""
    folder = tmp_path_factory.mktemp("tokenizer")
    backend = Backend(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    bytes_ = [f"<0x{byte:02X}>" for byte in range(256)]
    special = ["<unk>", "<s>", "</s>", "<|user|>", "<|assistant|>", "<|system|>"]
    trainer = trainers.BpeTrainer(vocab_size=1200, special_tokens=[*special, *bytes_])
    backend.train_from_iterator([m.content for said in SAID for m in said], trainer)
    definition = json.loads(backend.to_str())
    definition["added_tokens"] = [
        token for token in definition["added_tokens"] if token["content"] in special
    ]
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<s>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
        "chat_template": request.param,
    }
    (folder / "tokenizer.json").write_text(json.dumps(definition), "utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps(config), "utf-8")
    return folder


@pytest.mark.lengthy
@every_conversation
def test_a_sentencepiece_tokenizer_in_transformers(
    sentencepiece_like: Path, said: tuple[Message, ...]
) -> None:
    from transformers import AutoTokenizer

    reference = AutoTokenizer.from_pretrained(sentencepiece_like)
    ids = reference.apply_chat_template(
        as_dictionaries(said), add_generation_prompt=True, return_dict=False
    )
    ours = ChatTemplate(read_tokenizer(sentencepiece_like))
    assert list(ours.render(said)) == ids
