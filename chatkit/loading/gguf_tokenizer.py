"""Builds the tokenizer files of a checkpoint from what a GGUF file says.

The pre-tokenizers are those of the models' publishers, as `tokenizer.json` files hold them; the
result is compared with llama.cpp's own tokenizer on probe strings before it is trusted.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from chatkit.errors import ModelFileError

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, BYTE = 1, 2, 3, 4, 6

_GPT4_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{digits}"
    r"| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)

PROBES = (
    "Hello, world! How's it going?",
    "  two  spaces\n\n\nthree lines\t\ttabs ",
    "In 2024, 1234567 people paid $3.50; 9/10 liked it.",
    "def f(x):\n    return x**2  # done\n",
    "Žluťoučký kůň, naïve café, Straße, ЖЁЛТЫЙ",
    "日本語のテキストと 中文 and 한국어, and عربي",
    "👍🏽 emoji 👩‍👩‍👧 and e\u0301 combining",
    "<|im_start|>user\n</s> [INST] <unk>",
    "I'LL SHOUT, you're quiet; don't.",
)


def write_tokenizer(metadata: Mapping[str, Any], folder: Path) -> None:
    """Write `tokenizer.json` and `tokenizer_config.json`.

    Args:
        metadata: the key-value pairs of the GGUF file.
        folder: where to write; made when it is missing.

    Raises:
        ModelFileError: the file has no tokenizer, or one of a kind that cannot be rebuilt.
    """
    kind = metadata.get("tokenizer.ggml.model")
    if kind == "gpt2":
        definition = _byte_level_bpe(metadata)
    elif kind == "llama":
        definition = _sentencepiece(metadata)
    else:
        raise ModelFileError(
            f"The GGUF file's tokenizer is of the kind {kind!r}, which chatkit cannot rebuild; "
            "pull the model's hub checkpoint instead."
        )
    folder.mkdir(parents=True, exist_ok=True)
    _write_json(folder / "tokenizer.json", definition)
    _write_json(folder / "tokenizer_config.json", _config(metadata))


def _byte_level_bpe(metadata: Mapping[str, Any]) -> dict[str, Any]:
    tokens: list[str] = metadata["tokenizer.ggml.tokens"]
    merges: list[str] = metadata["tokenizer.ggml.merges"]
    pre = metadata.get("tokenizer.ggml.pre", "default")
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": _added_tokens(metadata),
        "normalizer": {"type": "NFC"} if pre == "qwen2" else None,
        "pre_tokenizer": _pre_tokenizer(pre),
        "post_processor": None,
        "decoder": {
            "type": "ByteLevel",
            "add_prefix_space": True,
            "trim_offsets": True,
            "use_regex": True,
        },
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": pre == "llama-bpe",
            "vocab": {token: index for index, token in enumerate(tokens)},
            "merges": [merge.split(" ", 1) for merge in merges],
        },
    }


def _pre_tokenizer(pre: str) -> dict[str, Any]:
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    if pre == "smollm":
        digits = {"type": "Digits", "individual_digits": True}
        return _sequence(digits, {**byte_level, "use_regex": True})
    if pre in ("gpt-2", "default"):
        return {**byte_level, "use_regex": True}
    if pre in ("llama-bpe", "qwen2"):
        words = _GPT4_WORDS.format(digits="{1,3}" if pre == "llama-bpe" else "")
        split = {"type": "Split", "pattern": {"Regex": words}, "behavior": "Isolated"}
        return _sequence({**split, "invert": False}, {**byte_level, "use_regex": False})
    raise ModelFileError(
        f"The GGUF file's tokenizer splits words in the way {pre!r}, which chatkit cannot rebuild; "
        "pull the model's hub checkpoint instead."
    )


def _sequence(*parts: dict[str, Any]) -> dict[str, Any]:
    return {"type": "Sequence", "pretokenizers": list(parts)}


def _sentencepiece(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """SentencePiece BPE: pieces merge in the order of their scores; unknown bytes fall back."""
    tokens: list[str] = metadata["tokenizer.ggml.tokens"]
    scores: list[float] = metadata["tokenizer.ggml.scores"]
    prefix = metadata.get("tokenizer.ggml.add_space_prefix", True)
    unknown = tokens[metadata.get("tokenizer.ggml.unknown_token_id", 0)]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": _added_tokens(metadata),
        "normalizer": None,
        "pre_tokenizer": {
            "type": "Metaspace",
            "replacement": "▁",
            "prepend_scheme": "first" if prefix else "never",
            "split": False,
        },
        "post_processor": None,
        "decoder": _sentencepiece_decoder(prefix),
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": unknown,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": True,
            "byte_fallback": True,
            "ignore_merges": False,
            "vocab": {token: index for index, token in enumerate(tokens)},
            "merges": _merges_from_scores(tokens, scores, metadata["tokenizer.ggml.token_type"]),
        },
    }


def _sentencepiece_decoder(prefix: bool) -> dict[str, Any]:
    parts: list[dict[str, Any]] = [
        {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
    ]
    if prefix:
        parts.append({"type": "Strip", "content": " ", "start": 1, "stop": 0})
    return {"type": "Sequence", "decoders": parts}


def _merges_from_scores(
    tokens: list[str], scores: list[float], types: list[int]
) -> list[tuple[str, str]]:
    """Every way to put a piece together from two pieces, better-scored pieces first."""
    rank = {token: index for index, token in enumerate(tokens) if types[index] == NORMAL}
    merges: list[tuple[float, tuple[str, str]]] = []
    for piece, index in rank.items():
        halves = [(piece[:cut], piece[cut:]) for cut in range(1, len(piece))]
        known = [(left, right) for left, right in halves if left in rank and right in rank]
        known.sort(key=lambda pair: (rank[pair[0]], rank[pair[1]]))
        merges.extend((-scores[index], pair) for pair in known)
    merges.sort(key=lambda merge: merge[0])
    return [pair for _, pair in merges]


def _added_tokens(metadata: Mapping[str, Any]) -> list[dict[str, Any]]:
    tokens: list[str] = metadata["tokenizer.ggml.tokens"]
    types: list[int] = metadata["tokenizer.ggml.token_type"]
    return [
        {
            "id": index,
            "content": tokens[index],
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": kind in (CONTROL, UNKNOWN),
        }
        for index, kind in enumerate(types)
        if kind in (CONTROL, UNKNOWN, USER_DEFINED)
    ]


def _config(metadata: Mapping[str, Any]) -> dict[str, Any]:
    tokens: list[str] = metadata["tokenizer.ggml.tokens"]

    def token(role: str) -> str | None:
        index = metadata.get(f"tokenizer.ggml.{role}_token_id")
        return None if index is None else tokens[index]

    architecture = metadata["general.architecture"]
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": token("bos"),
        "eos_token": token("eos"),
        "unk_token": token("unknown"),
        "pad_token": token("padding"),
        "add_bos_token": bool(metadata.get("tokenizer.ggml.add_bos_token", False)),
        "add_eos_token": False,
        "clean_up_tokenization_spaces": False,
        "model_max_length": metadata[f"{architecture}.context_length"],
        "chat_template": metadata.get("tokenizer.chat_template"),
    }


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False, indent=1), "utf-8")
