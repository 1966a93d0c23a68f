"""Our server: beside llama.cpp's own, its overhead without a model, and beside LiteLLM's proxy."""

import asyncio
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import psutil

from benchmarks.load import Heard, ask, ask_all
from benchmarks.measuring import MODEL, QUESTIONS
from benchmarks.serving import llamacpp_server, percentile
from chatkit.engines.opening import open_engine
from chatkit.messages import user
from chatkit.prompt import build_prompt

REPEATS = 5
TOKENS = 64
STREAMS = 200
STREAM_SECONDS = 10
PROXIED = 400
AT_ONCE = 16
LITELLM = Path(os.environ.get("CHATKIT_LITELLM", ".venv-litellm/bin/litellm"))


def beside_llamacpp() -> Iterator[str]:
    """Ask both servers the same token ids, in turns."""
    engine = open_engine(MODEL)
    prompts = [list(build_prompt(engine.template, [user(one)]).ids) for one in QUESTIONS]
    asyncio.run(engine.close())
    with serving("--model", MODEL) as ours, llamacpp_server() as address:
        theirs = int(address.rpartition(":")[2])
        for streams in (1, 4, 8, 16):
            pairs = [
                (_round(ours, prompts, streams, MODEL), _round(theirs, prompts, streams, "smollm2"))
                for _ in range(REPEATS + 1)
            ][1:]
            speed = median(one.speed / other.speed for one, other in pairs)
            later = median(one.first - other.first for one, other in pairs) * 1000
            yield (
                f"{streams} streams beside llama.cpp's own server: "
                f"{median(one.speed for one, _ in pairs):.1f} and "
                f"{median(other.speed for _, other in pairs):.1f} tokens/s, {speed:.3f}x "
                f"(target 0.97); first token p50 {later:+.1f} ms (target at most +5)"
            )


class Round(NamedTuple):
    """Several streams at once: tokens per second together, median seconds to the first token."""

    speed: float
    first: float


def _round(port: int, prompts: list[list[int]], streams: int, model: str) -> Round:
    bodies = [
        {
            "model": model,
            "prompt": prompts[number % len(prompts)],
            "max_tokens": TOKENS,
            "temperature": 0,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        for number in range(streams)
    ]
    began = time.monotonic()
    heard = asyncio.run(ask_all(port, "/v1/completions", bodies))
    seconds = time.monotonic() - began
    assert all(one.status == 200 and one.tokens for one in heard), heard[0].tail
    return Round(sum(one.tokens for one in heard) / seconds, median(one.first for one in heard))


def overhead() -> Iterator[str]:
    """Stream to many at once from a script; the load comes from this process, on the same cores."""
    with process(
        [sys.executable, "-m", "benchmarks.scripted_server", "0.02", str(STREAMS), "4000"]
    ) as (
        port,
        server,
    ):
        body = {
            "messages": [{"role": "user", "content": "x"}],
            "max_tokens": 50 * STREAM_SECONDS,
            "stream": True,
        }
        before = sum(server.cpu_times()[:2])
        began = time.monotonic()
        heard = asyncio.run(_staggered(port, body))
        seconds = time.monotonic() - began
        used = sum(server.cpu_times()[:2]) - before
    gaps = [gap for one in heard for gap in one.gaps]
    events = sum(len(one.times) for one in heard)
    yield (
        f"{STREAMS} streams of 50 tokens/s from a script: {events / seconds:,.0f} events a second, "
        f"gap between tokens p50 {percentile(gaps, 0.5) * 1000:.0f} ms, p99 "
        f"{percentile(gaps, 0.99) * 1000:.0f} ms (target under 100); the server's processor "
        f"{used / events * 1e6:.0f} µs a token"
    )


async def _staggered(port: int, body: dict[str, Any]) -> list[Heard]:
    """Begin the streams over one second, as people do."""

    async def one(number: int) -> Heard:
        await asyncio.sleep(number / STREAMS)
        return await ask(port, "/v1/chat/completions", body)

    return list(await asyncio.gather(*(one(number) for number in range(STREAMS))))


def beside_litellm() -> Iterator[str]:
    """Put our server and LiteLLM's proxy in front of the same scripted upstream."""
    if not LITELLM.exists():
        yield (
            f"LiteLLM's proxy is not at {LITELLM}: python -m venv .venv-litellm && "
            ".venv-litellm/bin/pip install 'litellm[proxy]'"
        )
        return
    command = [sys.executable, "-m", "benchmarks.scripted_server", "0", "256", "8"]
    with process(command) as (upstream, _):
        address = f"http://127.0.0.1:{upstream}"
        with (
            serving(
                "--model", f"openai:{address}/scripted:", "--max-concurrent-requests", "256"
            ) as ours,
            _litellm(address) as theirs,
        ):
            rates: dict[str, list[float]] = {"ours": [], "theirs": [], "alone": []}
            for _ in range(REPEATS):
                rates["ours"].append(_rate(ours, "tgi"))
                rates["theirs"].append(_rate(theirs, "scripted"))
                rates["alone"].append(_rate(upstream, "tgi"))
    ratio = median(one / other for one, other in zip(rates["ours"], rates["theirs"], strict=True))
    yield (
        f"requests a second in front of the same upstream, {AT_ONCE} at once: ours "
        f"{median(rates['ours']):.0f}, LiteLLM's proxy {median(rates['theirs']):.0f}, "
        f"{ratio:.1f}x (target 2); the upstream alone {median(rates['alone']):.0f}"
    )


def _rate(port: int, model: str) -> float:
    """Ask for short answers, so many at once, and give requests per second."""
    body = {"model": model, "messages": [{"role": "user", "content": "x"}], "max_tokens": 8}

    async def some(count: int) -> None:
        for _ in range(count):
            heard = await ask(port, "/v1/chat/completions", body, "sk-bench")
            assert heard.status == 200 and heard.tokens, heard.tail

    async def all_of_them() -> None:
        await asyncio.gather(*(some(PROXIED // AT_ONCE) for _ in range(AT_ONCE)))

    began = time.monotonic()
    asyncio.run(all_of_them())
    return PROXIED / (time.monotonic() - began)


@contextmanager
def serving(*arguments: str) -> Iterator[int]:
    """Start `python -m serve engine`, and end it."""
    command = [sys.executable, "-m", "serve", "engine", "--port", "0", *arguments]
    with process(command) as (port, _):
        yield port


@contextmanager
def process(command: list[str]) -> Iterator[tuple[int, psutil.Process]]:
    """Start a server that prints its address, and end it."""
    started = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        assert started.stdout
        found = re.search(r"http://[^:]+:(\d+)", started.stdout.readline())
        assert found, command
        yield int(found[1]), psutil.Process(started.pid)
    finally:
        started.terminate()
        started.wait(30)


@contextmanager
def _litellm(upstream: str) -> Iterator[int]:
    """Start LiteLLM's proxy in front of the upstream."""
    port = 4011
    model = {"model": "openai/scripted:", "api_base": f"{upstream}/v1", "api_key": "-"}
    settings = {"model_list": [{"model_name": "scripted", "litellm_params": model}]}
    with tempfile.TemporaryDirectory(prefix="chatkit-bench-") as folder:
        config = Path(folder) / "config.yaml"
        config.write_text(json.dumps(settings))
        process = subprocess.Popen(
            [str(LITELLM), "--config", str(config), "--port", str(port), "--host", "127.0.0.1"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={
                **os.environ,
                "LITELLM_LOCAL_MODEL_COST_MAP": "True",
                # It listens here alone; checking a key would only slow it down.
                "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",
            },
            cwd=folder,
        )
        try:
            asyncio.run(_up(port))
            yield port
        finally:
            process.terminate()
            process.wait(30)


async def _up(port: int) -> None:
    body = {"model": "scripted", "messages": [{"role": "user", "content": "x"}], "max_tokens": 2}
    async with asyncio.timeout(120):
        while True:
            try:
                if (await ask(port, "/v1/chat/completions", body, "sk-bench")).status == 200:
                    return
            except OSError:
                pass
            await asyncio.sleep(0.5)
