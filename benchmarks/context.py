"""Planning what fits of a conversation of 2,000 messages: the first time, and on later turns."""

import random
import time
from collections.abc import Iterator
from statistics import median

from benchmarks.measuring import MODEL
from chatkit.catalogue import find
from chatkit.context import Budget, Item, Policy, Summary, plan
from chatkit.loading.folder import require_pulled
from chatkit.messages import Message, Role
from chatkit.template import ChatTemplate
from chatkit.tokenizer import read_tokenizer

MESSAGES = 2_000
BUDGET = Budget(window=8_192, answer=2_048)
FIRST, LATER = 5, 30
TEXT = (
    "the sea is deep and people sail across it with ships of wood or steel while birds follow "
    "them home at night, because nobody knows a shorter way than the one that they remember."
)


def run() -> Iterator[str]:
    """Print the milliseconds of a plan, for messages of two lengths and with a summary."""
    template = ChatTemplate(read_tokenizer(require_pulled(find(MODEL)).tokenizer))
    yield from _figures(template, "about 60 tokens each", (10, 90), "sliding")
    yield from _figures(template, "about 60 tokens each, with a summary", (10, 90), "summarise")
    yield from _figures(template, "about 10 tokens each", (1, 15), "sliding")


def _figures(
    template: ChatTemplate, label: str, words: tuple[int, int], policy: Policy
) -> Iterator[str]:
    """Time plans with nothing remembered, then one on each turn as the conversation grows."""
    said = _talk(MESSAGES + 1, words)
    first: list[float] = []
    for _ in range(FIRST):
        template.forget()
        first.append(_milliseconds(template, said, policy))
    later: list[float] = []
    for _ in range(LATER):
        said += _talk(2, words)
        later.append(_milliseconds(template, said, policy))
    yield (
        f"{MESSAGES:,} messages of {label}: first {median(first):.0f} ms, "
        f"later {median(later):.1f} ms, slowest {max(later):.1f} ms (target: later under 20 ms)"
    )


def _talk(messages: int, words: tuple[int, int]) -> list[tuple[Role, str]]:
    """Make questions and answers; of an odd number, the last is a question."""
    roles: tuple[Role, Role] = ("user", "assistant")
    if messages % 2 == 0:
        roles = ("assistant", "user")
    return [
        (roles[n % 2], " ".join(random.choices(TEXT.split(), k=random.randint(*words))))
        for n in range(messages)
    ]


def _milliseconds(template: ChatTemplate, said: list[tuple[Role, str]], policy: Policy) -> float:
    # Texts come from the store as new strings on each turn, with no hash of theirs known yet.
    items = [
        Item(f"{n:032x}", Message(role, "".join([*text]))) for n, (role, text) in enumerate(said)
    ]
    summary = Summary("summary", "They talked about the sea. " * 10, items[MESSAGES - 51].id)
    began = time.perf_counter()
    plan(
        template,
        items,
        system="You are a guide to the sea.",
        budget=BUDGET,
        policy=policy,
        summary=summary,
    )
    return (time.perf_counter() - began) * 1000
