"""The live logs in a real Redis: what it holds, and what happens when it goes and comes back."""

import asyncio
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from live_logs import PATIENCE_SECONDS, SEAL, answer, deltas, opened, read, seqs, take, write
from redis.asyncio import Redis as Client
from services import Redis

from chatkit.errors import InputError, KeyUnavailable, StoreUnavailable
from chatkit.live import reading
from chatkit.live.event import Event
from chatkit.live.opening import open_live
from chatkit.sealing import KeySeal, PlainSeal, Seal, new_key

pytestmark = [pytest.mark.anyio, pytest.mark.services]
ROOT = Path(__file__).parents[1]
WRITER = """
import asyncio, sys
from chatkit.live.event import Event
from chatkit.live.opening import open_live
from chatkit.sealing import KeySeal

async def write():
    live, seal = open_live(sys.argv[1]), KeySeal(b"k" * 32)
    for seq in range(1, 1_000_000):
        live.append("c", Event(seq, "delta", f"word {seq} "), seal)
        await asyncio.sleep(0.002)

asyncio.run(write())
"""


@pytest.fixture
def own_redis() -> Iterator[Redis]:
    """A Redis that this test may stop; what it held is lost then."""
    with Redis() as server:
        yield server


@pytest.fixture
def keeping_redis() -> Iterator[Redis]:
    """A Redis that this test may stop, and that has its data when it comes back."""
    with Redis(appendonly=True) as server:
        yield server


@asynccontextmanager
async def client_of(url: str) -> AsyncIterator[Any]:
    client = Client.from_url(url, protocol=2)
    try:
        yield client
    finally:
        await client.aclose()


async def test_what_others_wrote_into_redis_is_refused(redis_url: str) -> None:
    async with client_of(redis_url) as client:
        await client.xadd("chatkit:live:c", {"e": b"\x00nonsense"}, "1-0")
    async with opened(redis_url) as live:
        with pytest.raises(StoreUnavailable, match="not chatkit's"):
            await read(live, "c", seal=PlainSeal())


async def test_the_key_of_another_conversation_opens_nothing(redis_url: str) -> None:
    async with opened(redis_url) as writer, opened(redis_url) as reader:
        await write(writer, "c", answer(3))
        with pytest.raises(KeyUnavailable):
            await read(reader, "c", seal=KeySeal(new_key()))
        assert await read(reader, "c") == answer(3)


async def test_dropping_leaves_no_key_in_redis(redis_url: str) -> None:
    async with opened(redis_url) as live, client_of(redis_url) as client:
        await write(live, "c", answer(3))
        await write(live, "other", answer(3))
        while len(await client.keys()) < 2:
            await asyncio.sleep(0.01)
        await live.drop("c")
        assert await client.keys() == [b"chatkit:live:other"]


async def test_redis_forgets_a_log_soon_after_its_final_event(redis_url: str) -> None:
    async with (
        opened(redis_url) as live,
        opened(redis_url) as other,
        client_of(redis_url) as client,
    ):
        await write(live, "c", deltas(1, 3))
        async with aclosing(other.follow("c", 0, SEAL)) as following:
            await take(following, 3)
            assert 60 < await client.ttl("chatkit:live:c") <= 3600
            live.append("c", Event(4, "done"), SEAL)
            await take(following, 1)
            assert 0 < await client.ttl("chatkit:live:c") <= 60


@pytest.mark.parametrize(("seal", "readable"), [(SEAL, False), (PlainSeal(), True)])
async def test_redis_has_no_plain_text(keeping_redis: Redis, seal: Seal, readable: bool) -> None:
    async with opened(keeping_redis.url) as live:
        await write(live, "c", answer(20, "mulberry"), seal)
    keeping_redis.ask("SAVE")
    files = [path for path in keeping_redis.directory.rglob("*") if path.is_file()]
    raw = b"".join(path.read_bytes() for path in files)
    assert b"chatkit:live:c" in raw
    assert (b"mulberry" in raw) == readable


async def test_a_follower_joins_while_others_wait(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "BLOCK_SECONDS", 3600)
    async with opened(redis_url) as writer, opened(redis_url) as reader:
        waiting = asyncio.create_task(read(reader, "silent"))
        await write(writer, "c", answer(3))
        await asyncio.sleep(0.1)
        # Less than the time after which a connection counts as broken and is made anew.
        async with asyncio.timeout(6):
            assert await read(reader, "c") == answer(3)
        waiting.cancel()


async def test_events_written_twice_are_there_once(redis_url: str) -> None:
    async with opened(redis_url) as one, opened(redis_url) as two:
        for event in answer(5):
            one.append("c", event, SEAL)
            two.append("c", event, SEAL)
        async with opened(redis_url) as reader:
            assert await read(reader, "c") == answer(5)


async def test_a_redis_that_does_not_answer_is_named_without_its_password() -> None:
    with Redis() as server:
        port = server.port
    live = open_live(f"redis://somebody:secret@127.0.0.1:{port}/0")
    with pytest.raises(
        StoreUnavailable, match=rf"127\.0\.0\.1:{port}/?.*CHATKIT_REDIS_URL"
    ) as error:
        await live.ready()
    assert "secret" not in str(error.value)
    with pytest.raises(StoreUnavailable):
        await live.drop("c")
    await live.close()


@pytest.mark.parametrize("url", ["http://127.0.0.1", "redis://127.0.0.1:many", "127.0.0.1:6379"])
async def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(InputError, match="CHATKIT_REDIS_URL"):
        open_live(url)


async def test_a_restarted_redis_that_lost_everything_gets_what_came_since(
    own_redis: Redis,
) -> None:
    async with opened(own_redis.url) as writer, opened(own_redis.url) as reader:
        here = asyncio.create_task(read(writer, "c"))
        async with aclosing(reader.follow("c", 0, SEAL)) as following:
            await write(writer, "c", deltas(1, 5))
            await take(following, 5)
            own_redis.stop()
            await write(writer, "c", deltas(6, 10))
            await asyncio.sleep(0.1)
            own_redis.start()
            await write(writer, "c", [*deltas(11, 15), Event(16, "done")])
            assert seqs(await take(following, 11)) == [*range(6, 17)]
        assert seqs(await here) == [*range(1, 17)]
        async with opened(own_redis.url) as late:
            assert seqs(await read(late, "c")) == [*range(6, 17)]


async def test_a_follower_that_joins_while_redis_is_away_is_served_later(own_redis: Redis) -> None:
    async with opened(own_redis.url) as writer, opened(own_redis.url) as reader:
        own_redis.stop()
        following = asyncio.create_task(read(reader, "c"))
        await write(writer, "c", answer(3))
        await asyncio.sleep(0.1)
        own_redis.start()
        assert await following == answer(3)


@pytest.mark.parametrize("kept", [True, False], ids=["with its data", "without its data"])
async def test_a_killed_redis_repeats_nothing_and_keeps_the_order(kept: bool) -> None:
    with Redis(appendonly=kept) as server:
        async with opened(server.url) as writer, opened(server.url) as reader:
            following = asyncio.create_task(read(reader, "c"))
            here = asyncio.create_task(read(writer, "c"))
            for event in answer(298):
                if event.seq == 100:
                    server.kill()
                if event.seq == 150:
                    server.start()
                writer.append("c", event, SEAL)
                await asyncio.sleep(0.001)
            assert await here == answer(298)
            got = seqs(await following)
    assert got == sorted(set(got))
    # What was written and not yet read at the moment of the kill may be missing, and no more.
    assert set(range(100, 301)) <= set(got)
    assert not kept or got == [*range(1, 301)]


async def test_a_worker_killed_elsewhere_is_followed_to_the_end_that_is_written_here(
    redis_url: str,
) -> None:
    worker = subprocess.Popen([sys.executable, "-c", WRITER, redis_url], cwd=ROOT)
    try:
        async with opened(redis_url) as live, aclosing(live.follow("c", 0, SEAL)) as following:
            got = await take(following, 100)
            worker.send_signal(signal.SIGKILL)
            worker.wait()
            # A worker that is dead writes nothing more: this is all there is.
            last = await newest(redis_url)
            live.append("c", Event(last + 1, "interrupted"), SEAL)
            async with asyncio.timeout(PATIENCE_SECONDS):
                got += [event async for event in following]
    finally:
        worker.kill()
        worker.wait()
    assert got == [*deltas(1, last), Event(last + 1, "interrupted")]


async def newest(url: str) -> int:
    async with client_of(url) as client:
        ((id, _),) = await client.xrevrange("chatkit:live:c", count=1)
    return int(id.partition(b"-")[0])
