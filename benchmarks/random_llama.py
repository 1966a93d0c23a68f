"""Writes a 7B-shaped Llama with random weights: `python -m benchmarks.random_llama FOLDER`.

Its tokenizer is SmolLM2's, so nothing is downloaded; speed and memory do not ask what weights say.
"""

import shutil
import sys
from pathlib import Path

from chatkit.loading.bases import find_base

SHAPES = {
    "7b": {"hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "heads": 32},
    "tiny": {"hidden_size": 256, "intermediate_size": 688, "num_hidden_layers": 4, "heads": 4},
}


def write(folder: Path, shape: str = "7b") -> None:
    """Write the checkpoint in bfloat16.

    Args:
        folder: to be made.
        shape: `7b`, or `tiny` to see that the benchmark runs.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = dict(SHAPES[shape])
    heads = sizes.pop("heads")
    shutil.copytree(find_base("smollm2-135m").tokenizer, folder)
    config = LlamaConfig(
        vocab_size=49152,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        bos_token_id=1,
        eos_token_id=2,
        **sizes,
    )
    torch.set_default_dtype(torch.bfloat16)
    LlamaForCausalLM(config).save_pretrained(folder)


if __name__ == "__main__":
    write(Path(sys.argv[1]), *sys.argv[2:])
