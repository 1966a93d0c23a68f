"""Stands for the template of a server that keeps its own: token counts are estimates."""

import json
import re
from dataclasses import dataclass
from functools import cached_property

from chatkit.template import ChatTemplate, TemplateIdentity
from chatkit.tokenizer import Tokenizer

# Three letters of English make about 0.7 tokens in today's vocabularies, so this errs on the side
# of too many; outside of ASCII a character is a token at most in nearly all of them.
PIECE = r"[\x00-\x7f]{1,3}|[^\x00-\x7f]"
CHATML = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# What chat templates write between messages; a server reads it in a message as well.
CONTROL = re.compile(
    r"<\|[^|<>\s]{1,40}\|>|</?s>|\[/?INST\]|<</?SYS>>|<(?:start|end)_of_turn>|"
    r"\[/?(?:SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS)\]|<｜[^｜<>]{1,40}｜>"
)


@dataclass(frozen=True, slots=True)
class ServersIdentity(TemplateIdentity):
    """Says that a server's own template is used, which cannot be seen from here."""

    def __str__(self) -> str:
        return f"server:{self.template}"


class ServersTemplate(ChatTemplate):
    """Counts about as many tokens as a server's own template will make.

    Args:
        model: the model's name at the server.
    """

    def __init__(self, model: str) -> None:
        super().__init__(_estimating_tokenizer())
        self._model = model

    @cached_property
    def identity(self) -> TemplateIdentity:
        """Whose template it is."""
        return ServersIdentity(self._model, (), None, None, "")


def control_in(text: str) -> str | None:
    """Find what a server might take for a control token."""
    found = CONTROL.search(text)
    return found[0] if found else None


def _estimating_tokenizer() -> Tokenizer:
    control = ["<|im_start|>", "<|im_end|>"]
    definition = {
        "version": "1.0",
        "added_tokens": [
            {
                "id": number,
                "content": text,
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
                "special": True,
            }
            for number, text in enumerate(control, start=1)
        ],
        "pre_tokenizer": {
            "type": "Split",
            "pattern": {"Regex": PIECE},
            "behavior": "Isolated",
            "invert": False,
        },
        "model": {"type": "WordLevel", "vocab": {"<piece>": 0}, "unk_token": "<piece>"},
    }
    return Tokenizer(json.dumps(definition), {"eos_token": "<|im_end|>"}, CHATML)
