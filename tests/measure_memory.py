"""Loads a model in a process of its own, answers once, and prints the resident bytes."""

import asyncio
import sys

import psutil

from chatkit.engine import complete
from chatkit.engines.opening import LoadOptions, open_engine
from chatkit.messages import user
from chatkit.prompt import build_prompt
from chatkit.sampling import Sampling


async def measure(name: str, quantize: str | None, context: int) -> int:
    """Answer a prompt that nearly fills the context, and give the resident bytes after it."""
    options = LoadOptions(quantize, None if "transformers" in name else context)
    engine = open_engine(name, options)
    words = "word " * (context - 60 if "transformers" in name else 300)
    prompt = build_prompt(engine.template, [user(words)])
    await complete(engine, prompt, Sampling(temperature=0, max_tokens=20))
    return psutil.Process().memory_info().rss


if __name__ == "__main__":
    name, quantize, context = sys.argv[1:]
    print(asyncio.run(measure(name, quantize if quantize != "none" else None, int(context))))
