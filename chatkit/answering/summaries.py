"""Short texts that the model writes about a conversation: summaries and titles."""

from collections.abc import Sequence

from chatkit.context import Summary
from chatkit.engine import Engine, complete
from chatkit.messages import Message, user
from chatkit.prompt import build_prompt
from chatkit.sampling import Sampling

TITLE_TOKENS = 20
TITLE_CHARACTERS = 60
# A question this long says enough for a title.
_ENOUGH_CHARACTERS = 1_000

_SUMMARY_REQUEST = (
    "Summarise the conversation below in a few sentences. Keep names, numbers, decisions and "
    "what the user wants. Write only the summary."
)
_TITLE_REQUEST = "Write a title of at most six words for the message below. Write only the title."


async def write_summary(engine: Engine, before: Summary | None, messages: Sequence[Message]) -> str:
    """Let the model summarise messages, together with what was summarised before.

    What is too long for one prompt keeps its beginning and its end.

    Returns: the summary, empty when the model wrote none.
    """
    parts = [f"Summary so far: {before.text}"] if before else []
    parts += [f"{message.role}: {message.content}" for message in messages]
    room = engine.context // 2
    text = _shortened(engine, "\n\n".join(parts), room)
    prompt = build_prompt(engine.template, [user(f"{_SUMMARY_REQUEST}\n\n{text}")])
    sampling = Sampling(temperature=0, max_tokens=max(32, engine.context // 8))
    answer, _ = await complete(engine, prompt, sampling)
    return answer.strip()


async def write_title(engine: Engine, question: str) -> str:
    """Let the model give a conversation a title.

    Returns: the title, empty when the model wrote nothing that could be one.
    """
    text = f"{_TITLE_REQUEST}\n\n{question[:_ENOUGH_CHARACTERS]}"
    prompt = build_prompt(engine.template, [user(text)])
    sampling = Sampling(temperature=0, max_tokens=TITLE_TOKENS)
    answer, _ = await complete(engine, prompt, sampling)
    lines = [line.strip(" \t\"'#*.“”") for line in answer.splitlines()]
    return short_title(next(filter(None, lines), "").removeprefix("Title:").strip(" \"'"))


def short_title(text: str) -> str:
    """Give the first words of a text as a title."""
    words = " ".join(text.split())
    if len(words) <= TITLE_CHARACTERS:
        return words
    return words[:TITLE_CHARACTERS].rsplit(" ", 1)[0] + "…"


def _shortened(engine: Engine, text: str, room: int) -> str:
    tokens = engine.template.tokenizer.encode(text)
    if len(tokens) <= room:
        return text
    half = room // 2
    return f"{text[: tokens[half].start]}\n…\n{text[tokens[-half].start :]}"
