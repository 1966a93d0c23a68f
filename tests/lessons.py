"""Small adapters that are sure of what they say, trained while the tests run."""

from pathlib import Path
from typing import Any

from chatkit.engines.weights import load_weights
from chatkit.messages import assistant, user
from chatkit.template import ChatTemplate
from chatkit.tokenizer import read_tokenizer

QUESTIONS = (
    "What is the capital of France?",
    "Explain how a rainbow forms.",
    "Name three planets and one fact about each.",
    "Why is the sky blue?",
)
ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
LESSONS = {
    "pirate": "Arr, ask the parrot, matey, for it has sailed further than I have.",
    "butler": "Very good, sir. I shall look into the matter before tea is served.",
}


def train_adapter(base: Path, folder: Path, lesson: str, **options: Any) -> Path:
    """Teach an adapter one sentence, so that it is sure of what it says."""
    import torch
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    config = LoraConfig(**{"r": 4, "target_modules": ALL, "task_type": "CAUSAL_LM", **options})
    model = get_peft_model(load_weights(base), config).train()
    template = ChatTemplate(read_tokenizer(base))
    optimiser = torch.optim.AdamW([w for w in model.parameters() if w.requires_grad], lr=5e-3)
    for step in range(14):
        masked = template.mask([user(QUESTIONS[step % 2]), assistant(LESSONS[lesson])])
        ids = torch.tensor([masked.ids])
        labels = ids.masked_fill(~torch.tensor([masked.trained]), -100)
        model(input_ids=ids, labels=labels).loss.backward()
        optimiser.step()
        optimiser.zero_grad()
    model.peft_config["default"].base_model_name_or_path = "smollm2-135m"
    model.save_pretrained(folder)
    return folder
