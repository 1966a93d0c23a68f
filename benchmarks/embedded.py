"""Our embedded engine against llama.cpp's server asked directly, with the same token ids."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from statistics import median

from benchmarks.measuring import MODEL, QUESTIONS, REPEATS, medians, time_engine, time_raw
from chatkit.catalogue import find
from chatkit.engines.llamacpp import LlamaCppEngine
from chatkit.engines.opening import open_engine
from chatkit.loading.folder import require_pulled
from chatkit.messages import user
from chatkit.prompt import build_prompt


def run() -> Iterator[str]:
    """Print tokens/s and first-token time as ratio and difference."""
    engine = open_engine(MODEL)
    assert isinstance(engine, LlamaCppEngine)
    ours, raw = asyncio.run(_alternate(engine))
    ratios = [a.speed / b.speed for a, b in zip(ours, raw, strict=True)]
    later = [(a.first - b.first) * 1000 for a, b in zip(ours, raw, strict=True)]
    yield (
        f"tokens/s: ours {medians(ours).speed:.1f}, raw {medians(raw).speed:.1f}, "
        f"ratio {median(ratios):.3f} (target at least 0.97)"
    )
    yield f"first token: {median(later):+.2f} ms against raw (target at most +5)"
    speed = _raw_with_its_own_settings()
    yield (
        f"raw xllamacpp in a process of its own, spinning threads: {speed:.1f} tokens/s, "
        f"ours is {medians(ours).speed / speed:.2f}x"
    )


async def _alternate(engine: LlamaCppEngine) -> tuple[list, list]:  # type: ignore[type-arg]
    ours, raw = [], []
    for question in QUESTIONS:
        prompt = build_prompt(engine.template, [user(question)])
        await time_engine(engine, prompt)
        for _ in range(REPEATS):
            ours.append(await time_engine(engine, prompt))
            raw.append(await asyncio.to_thread(time_raw, engine.server.raw, prompt.ids))
    await engine.close()
    return ours, raw


RAW = """
import sys
from statistics import median
from xllamacpp import CommonParams, Server
from benchmarks.measuring import time_raw
parameters = CommonParams()
parameters.model.path = sys.argv[1]
parameters.n_ctx = 8192
parameters.port = 0
parameters.verbosity = -1
server = Server(parameters)
ids = tuple(map(int, sys.argv[2].split(",")))
time_raw(server, ids)
print(median(time_raw(server, ids).speed for _ in range(5)))
"""


def _raw_with_its_own_settings() -> float:
    from chatkit.template import ChatTemplate
    from chatkit.tokenizer import read_tokenizer

    folder = require_pulled(find(MODEL))
    template = ChatTemplate(read_tokenizer(folder.tokenizer))
    ids = ",".join(map(str, template.render([user(QUESTIONS[0])])))
    command = [sys.executable, "-c", RAW, str(folder.gguf), ids]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
