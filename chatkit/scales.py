"""How much a message brings into a prompt, whatever else the prompt holds."""

import re
import sys
from typing import NamedTuple

from chatkit.messages import Message
from chatkit.remembered import Remembered
from chatkit.tokenizer import Tokenizer

REMEMBERED_BYTES = 16 * 1024 * 1024
_ENTRY_BYTES = 400


class Weight(NamedTuple):
    """What a message brings into any prompt.

    Args:
        tokens: the tokens of its texts.
        trimmed: those of its content without outer white space, which templates may trim.
        neutralised: the control tokens that it spells.
    """

    tokens: int
    trimmed: int
    neutralised: tuple[str, ...]


class Scales:
    """Weighs messages, and remembers what it weighed, since counting tokens takes long.

    Args:
        tokenizer: the model's tokenizer.
        spelled: matches the spelling of any control token.
    """

    def __init__(self, tokenizer: Tokenizer, spelled: re.Pattern[str]) -> None:
        self._tokenizer = tokenizer
        self._spelled = spelled
        self._weights: Remembered[str, Weight] = Remembered(REMEMBERED_BYTES)

    def weigh(self, message: Message) -> Weight:
        """Weigh all that a message says."""
        if not message.reasoning and not message.tool_calls:
            return self._weigh(message.content)
        arguments = (call.arguments for call in message.tool_calls)
        weights = [self._weigh(t) for t in (message.content, message.reasoning, *arguments)]
        names = {name for weight in weights for name in weight.neutralised}
        tokens = sum(weight.tokens for weight in weights)
        return Weight(tokens, weights[0].trimmed, tuple(sorted(names)))

    def forget(self) -> None:
        """Forget what was weighed."""
        self._weights.forget()

    def _weigh(self, text: str) -> Weight:
        weight = self._weights.get(text)
        if weight is None:
            names = tuple(sorted(set(self._spelled.findall(text))))
            tokens, body = self._tokenizer.count(text), text.strip()
            trimmed = tokens if body == text else self._tokenizer.count(body)
            weight = Weight(tokens, trimmed, names)
            self._weights.put(text, weight, _ENTRY_BYTES + sys.getsizeof(text))
        return weight
