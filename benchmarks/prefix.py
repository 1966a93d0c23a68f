"""The first token late in a conversation against early in it: is the prefix read only once?"""

import asyncio
from collections.abc import Iterator
from statistics import median

from benchmarks.measuring import MODEL, time_engine, time_raw
from chatkit.engine import complete
from chatkit.engines.llamacpp import LlamaCppEngine
from chatkit.engines.opening import MANY, SESSION, LoadOptions, open_engine
from chatkit.messages import Message, assistant, user
from chatkit.prompt import Prompt, build_prompt
from chatkit.sampling import Sampling

TURNS = 21
CONVERSATIONS = 3
QUESTION = "Tell me one more thing about the sea, number {turn}, in two sentences."
VISITORS = 3
ROUNDS = 3
LONG = "The sea was calm that day, and nobody was on the shore. " * 100


def run() -> Iterator[str]:
    """Print the first-token times at turns 2 and 20, and of visitors who take turns."""
    target = " (target at most 1.5)"
    yield from _measured("a page", LoadOptions(), target)
    yield from _measured("a notebook, a script, a terminal", SESSION, target)
    yield from _measured("a server, an evaluation", MANY)


def _measured(title: str, options: LoadOptions, target: str = "") -> Iterator[str]:
    engine = open_engine(MODEL, options)
    assert isinstance(engine, LlamaCppEngine)
    firsts: dict[int, list[float]] = {2: [], 20: []}
    reread: list[float] = []
    for conversation in range(CONVERSATIONS):
        asyncio.run(_talk(engine, conversation, firsts, reread))
    early, late = median(firsts[2]) * 1000, median(firsts[20]) * 1000
    yield (
        f"{title}: first token at turn 2 {early:.0f} ms, at turn 20 {late:.0f} ms, "
        f"ratio {late / early:.2f}{target}"
    )
    yield f"  turn 20 with the whole history read again: {median(reread) * 1000:.0f} ms"
    yield asyncio.run(_take_turns(engine))
    asyncio.run(engine.close())


async def _talk(
    engine: LlamaCppEngine, number: int, firsts: dict[int, list[float]], reread: list[float]
) -> None:
    said: list[Message] = [Message("system", f"You are guide number {number}.")]
    for turn in range(1, TURNS):
        said.append(user(QUESTION.format(turn=turn)))
        prompt = build_prompt(engine.template, said)
        if turn in firsts:
            firsts[turn].append((await time_engine(engine, prompt, 48)).first)
        answer, _ = await complete(engine, prompt, Sampling(temperature=0, max_tokens=48))
        said.append(assistant(answer))
    # A prompt that begins otherwise shares no prefix with anything that was read.
    other = [Message("system", f"Guide {number} you are."), *said[1:-1]]
    ids = build_prompt(engine.template, other).ids
    reread.append((await asyncio.to_thread(time_raw, engine.server.raw, ids, 8)).first)


async def _take_turns(engine: LlamaCppEngine) -> str:
    """Let visitors with long conversations be answered one after the other, several times."""
    prompts = [_long(engine, visitor) for visitor in range(VISITORS)]
    fresh = [(await time_engine(engine, prompt, 8)).first for prompt in prompts]
    again = [(await time_engine(engine, prompt, 8)).first for prompt in prompts * ROUNDS]
    return (
        f"  {VISITORS} visitors who take turns, {len(prompts[0].ids):,} tokens each: first token "
        f"{median(again) * 1000:.0f} ms, at their first turn {median(fresh) * 1000:.0f} ms"
    )


def _long(engine: LlamaCppEngine, visitor: int) -> Prompt:
    return build_prompt(engine.template, [user(f"Visitor {visitor}. {LONG} What was it like?")])
