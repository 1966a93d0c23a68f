"""A model so small that a test can train it, with a real tokenizer."""

import shutil
from pathlib import Path

from chatkit.loading.folder import ModelFolder


def make_tiny(home: Path, folder: Path) -> Path:
    """Write a Llama of four layers with random weights and SmolLM2's tokenizer.

    Args:
        home: where SmolLM2 is pulled.
        folder: to be made.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    shutil.copytree(ModelFolder(home / "models" / "smollm2-135m").tokenizer, folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=49152,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=True,
        bos_token_id=1,
        eos_token_id=2,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder
