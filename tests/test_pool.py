"""Several servers as one engine: who is asked, what happens when one fails, who waits."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from scripted_service import ScriptedModels
from wire_server import saying, wire_server

from chatkit.answering.options import AnswerOptions
from chatkit.engine import Engine, complete
from chatkit.engines.opening import open_engine
from chatkit.engines.pool.affinity import Affinity, path_of
from chatkit.engines.pool.breaker import Breaker
from chatkit.engines.pool.configuration import BreakerOptions, Server, read_configuration
from chatkit.engines.pool.engine import PoolEngine, open_pool
from chatkit.engines.pool.fair_queue import FairQueue
from chatkit.engines.scripted import Script, ScriptedEngine
from chatkit.errors import ChatkitError, EngineError, InputError, Overloaded, Unsupported
from chatkit.prompt import Prompt, raw_prompt
from chatkit.sampling import Sampling
from chatkit.service import open_chat_service
from chatkit.settings import settings

pytestmark = pytest.mark.anyio
SHORT = Sampling(temperature=0, max_tokens=40)


class Fake(ScriptedEngine):
    """A server that says its name, and can be told to be ill."""

    def __init__(self, name: str, **script: Any) -> None:
        super().__init__(Script(answer=lambda _: name, **script), name=name)
        self.ill: ChatkitError | None = None
        self.asked = 0

    async def stream(self, prompt, sampling, adapter=None):  # type: ignore[no-untyped-def, override]
        self.asked += 1
        if self.ill:
            raise self.ill
        async with aclosing(super().stream(prompt, sampling, adapter)) as deltas:
            async for delta in deltas:
                yield delta

    async def health(self) -> None:
        if self.ill:
            raise EngineError("ill")
        await super().health()


class Fleet:
    """A pool of fakes, and its file."""

    def __init__(self, path: Path, fakes: dict[str, Fake]) -> None:
        self.path = path
        self.fakes = fakes
        self.said: dict[str, Any] = {
            "name": "fleet",
            "servers": [{"name": name, "model": name} for name in fakes],
            "health": {"every_seconds": 0.05, "failures": 1},
        }

    def write(self, **changes: Any) -> None:
        self.said |= changes
        draft = self.path.with_suffix(".draft")
        draft.write_text(yaml.safe_dump(self.said))
        draft.replace(self.path)

    def open(self, server: Server) -> Engine:
        fake = self.fakes.get(server.model)
        if fake is None:
            raise EngineError(f"{server.model} cannot be reached.")
        return fake


@asynccontextmanager
async def fleet(
    path: Path, fakes: dict[str, Fake], **changes: Any
) -> AsyncIterator[tuple[PoolEngine, Fleet]]:
    made = Fleet(path / "pool.yaml", fakes)
    made.write(**changes)
    pool = await asyncio.to_thread(open_pool, "pool:x", made.path, made.open)
    try:
        yield pool, made
    finally:
        await pool.close()


def three(**script: Any) -> dict[str, Fake]:
    return {name: Fake(name, **script) for name in ("a", "b", "c")}


def prompt_of(pool: Engine, text: str = "hello", user: str = "") -> Prompt:
    return replace(raw_prompt(pool.template.tokenizer, text), user=user)


async def ask(pool: Engine, text: str = "hello", user: str = "") -> str:
    return (await complete(pool, prompt_of(pool, text, user), SHORT))[0]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.005)


async def test_requests_at_once_go_to_the_servers_that_have_least_to_do(tmp_path: Path) -> None:
    async with fleet(tmp_path, three(token_seconds=0.02)) as (pool, made):
        texts = await asyncio.gather(*(ask(pool, f"question {n}") for n in range(9)))
    assert sorted(texts) == ["a"] * 3 + ["b"] * 3 + ["c"] * 3
    assert [fake.asked for fake in made.fakes.values()] == [3, 3, 3]


async def test_twice_the_weight_gets_twice_the_requests(tmp_path: Path) -> None:
    servers = [{"name": "a", "model": "a", "weight": 2}, {"name": "b", "model": "b"}]
    fakes = {name: Fake(name, token_seconds=0.05, slots=9) for name in "ab"}
    async with fleet(tmp_path, fakes, servers=servers) as (pool, made):
        await asyncio.gather(*(ask(pool, f"question {n}") for n in range(9)))
    assert [fake.asked for fake in made.fakes.values()] == [6, 3]


async def test_a_conversation_stays_where_it_was_read(tmp_path: Path) -> None:
    async with fleet(tmp_path, three()) as (pool, _):
        for number in range(4):
            text = f"conversation {number} " * 5
            first = await ask(pool, text)
            for _ in range(5):
                text += "and then something more was said. "
                assert await ask(pool, text) == first


async def test_a_conversation_moves_when_its_server_has_too_much_to_do(tmp_path: Path) -> None:
    affinity = {"margin_tokens": 10}
    fakes = three(token_seconds=0.05)
    async with fleet(tmp_path, fakes, affinity=affinity) as (pool, _):
        text = "a long beginning that fills more than a block " * 3
        first = await ask(pool, text)
        running = asyncio.create_task(ask(pool, text + "x"))
        await until(lambda: fakes[first].admission.running == 1)
        assert await ask(pool, text + "y") != first
        assert await running == first


async def test_a_server_that_fails_before_its_first_token_is_left_out(tmp_path: Path) -> None:
    async with fleet(tmp_path, three(), health={"every_seconds": 60}) as (pool, made):
        made.fakes["a"].ill = EngineError("it burns")
        answers = [await ask(pool, f"question {n}") for n in range(12)]
        assert set(answers) == {"b", "c"}
        # After three failures in a row it is not even asked.
        assert made.fakes["a"].asked == 3


async def test_a_failure_after_the_first_token_is_the_answers_end(tmp_path: Path) -> None:
    fakes = {"a": Fake("hello", fail_after=2), "b": Fake("b")}
    async with fleet(tmp_path, fakes) as (pool, _):
        heard = []
        with pytest.raises(EngineError, match="failed after 2 tokens"):
            async for delta in pool.stream(prompt_of(pool), SHORT):
                heard.append(delta.text)
        assert "".join(heard) == "he" and fakes["b"].asked == 0


async def test_what_a_caller_did_wrong_is_tried_once_and_blames_nobody(tmp_path: Path) -> None:
    async with fleet(tmp_path, three()) as (pool, made):
        for _ in range(4):
            with pytest.raises(Unsupported):
                await complete(pool, prompt_of(pool), Sampling(regex="x"))
        assert sum(fake.asked for fake in made.fakes.values()) == 4
        assert {one.standing for one in pool.roster.dispatch.members} == {"working"}


async def test_when_all_fail_the_last_reason_is_told(tmp_path: Path) -> None:
    async with fleet(tmp_path, three(), health={"every_seconds": 60}) as (pool, made):
        for fake in made.fakes.values():
            fake.ill = EngineError("it burns")
        with pytest.raises(EngineError, match=r"of 3 that were tried the last said: it burns"):
            await ask(pool)


async def test_when_all_have_too_much_to_do_the_caller_hears_when_to_come_again(
    tmp_path: Path,
) -> None:
    async with fleet(tmp_path, three(), health={"every_seconds": 60}) as (pool, made):
        for seconds, fake in enumerate(made.fakes.values(), start=5):
            fake.ill = Overloaded("busy", seconds)
        with pytest.raises(Overloaded) as full:
            await ask(pool)
        assert full.value.retry_after == 5
        made.fakes["b"].ill = None
        assert await ask(pool) == "b"


async def test_the_fallback_answers_when_all_fail_and_the_answer_says_so(tmp_path: Path) -> None:
    fakes = {**three(), "spare": Fake("spare")}
    servers = [{"name": name, "model": name} for name in "abc"]
    async with fleet(tmp_path, fakes, servers=servers, fallback="spare") as (pool, made):
        _, last = await complete(pool, prompt_of(pool), SHORT)
        assert last.usage is not None and last.usage.answered_by == ""
        for name in "abc":
            made.fakes[name].ill = EngineError("it burns")
        text, last = await complete(pool, prompt_of(pool), SHORT)
        assert text == "spare"
        assert last.usage is not None and last.usage.answered_by == "spare"


async def test_a_server_that_is_ill_gets_nothing_until_it_is_well(tmp_path: Path) -> None:
    async with fleet(tmp_path, three()) as (pool, made):
        made.fakes["a"].ill = EngineError("ill")
        member = pool.roster.dispatch.members[0]
        await until(lambda: not member.well)
        assert {await ask(pool, f"question {n}") for n in range(6)} == {"b", "c"}
        assert made.fakes["a"].asked == 0
        made.fakes["a"].ill = None
        await until(lambda: member.well)
        await asyncio.gather(*(ask(pool, f"question {n}") for n in range(6)))
        assert made.fakes["a"].asked > 0


async def test_what_waits_for_a_server_that_falls_moves_on(tmp_path: Path) -> None:
    fakes = {"a": Fake("a", reading_seconds=30), "b": Fake("b")}
    async with fleet(tmp_path, fakes) as (pool, made):
        running = asyncio.create_task(ask(pool))
        await until(lambda: fakes["a"].admission.running == 1)
        made.fakes["a"].ill = EngineError("ill")
        assert await running == "b"


@pytest.mark.lengthy
async def test_users_take_turns(tmp_path: Path) -> None:
    servers = [{"name": "a", "model": "a", "limit": 1}]
    fakes = {"a": Fake("aaaa", token_seconds=0.005, slots=1)}
    done: list[str] = []

    async def one(user: str, number: int) -> None:
        await ask(pool, f"{user} {number}", user)
        done.append(user)

    async with fleet(tmp_path, fakes, servers=servers) as (pool, _):
        greedy = [asyncio.create_task(one("greedy", n)) for n in range(12)]
        await until(lambda: pool.waiting == 11)
        modest = [asyncio.create_task(one("modest", n)) for n in range(2)]
        await asyncio.gather(*greedy, *modest)
    assert "modest" in done[:4] and done[:6].count("modest") == 2


async def test_a_full_queue_refuses_with_a_time(tmp_path: Path) -> None:
    servers = [{"name": "a", "model": "a", "limit": 1}]
    fakes = {"a": Fake("a", reading_seconds=30)}
    queue = {"limit": 3, "per_user": 2}
    async with fleet(tmp_path, fakes, servers=servers, queue=queue) as (pool, _):
        tasks = [asyncio.create_task(ask(pool, user="ada"))]
        await until(lambda: fakes["a"].admission.running == 1)
        tasks += [asyncio.create_task(ask(pool, user="ada")) for _ in range(2)]
        await until(lambda: pool.waiting == 2)
        with pytest.raises(Overloaded, match="Too many wait") as full:
            await ask(pool, user="ada")
        assert 1 <= full.value.retry_after <= 120
        tasks.append(asyncio.create_task(ask(pool, user="bob")))
        await until(lambda: pool.waiting == 3)
        with pytest.raises(Overloaded):
            await ask(pool, user="eve")
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert pool.waiting == 0 and fakes["a"].admission.running == 0


@pytest.mark.lengthy
async def test_waiting_and_answering_have_an_end(tmp_path: Path) -> None:
    servers = [{"name": "a", "model": "a", "limit": 1}]
    fakes = {"a": Fake("a", reading_seconds=30)}
    options = {"queue": {"seconds": 0.3}, "deadline_seconds": 0.8}
    async with fleet(tmp_path, fakes, servers=servers, **options) as (pool, _):
        running = asyncio.create_task(ask(pool))
        await until(lambda: fakes["a"].admission.running == 1)
        with pytest.raises(EngineError, match="no free server in time"):
            await ask(pool)
        with pytest.raises(EngineError, match=r"within its deadline of 0\.8 seconds|in time"):
            await running
        await until(lambda: fakes["a"].admission.running == 0)


@pytest.mark.lengthy
async def test_a_changed_file_adds_and_removes_servers_while_answers_run(tmp_path: Path) -> None:
    fakes = {"a": Fake("a" * 30, token_seconds=0.03), "b": Fake("b"), "c": Fake("c")}
    servers = [{"name": "a", "model": "a"}]
    async with fleet(tmp_path, fakes, servers=servers) as (pool, made):
        running = asyncio.create_task(ask(pool))
        await until(lambda: fakes["a"].admission.running == 1)
        made.write(servers=[{"name": "b", "model": "b"}, {"name": "c", "model": "c"}])
        await until(
            lambda: {one.name for one in pool.roster.dispatch.members if one.free} == {"b", "c"}
        )
        assert {await ask(pool, f"question {n}") for n in range(6)} == {"b", "c"}
        assert await running == "a" * 30
        await until(lambda: {one.name for one in pool.roster.dispatch.members} == {"b", "c"})
        with pytest.raises(EngineError, match="closed"):
            await ScriptedEngine.health(fakes["a"])


@pytest.mark.lengthy
@pytest.mark.parametrize(
    "text",
    ["servers: [", "name: fleet", "name: fleet\nservers: [{name: x}]", "name: fleet\nserver: []"],
)
async def test_a_broken_edit_changes_nothing(
    tmp_path: Path, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with fleet(tmp_path, three()) as (pool, made):
        made.path.write_text(text)
        await until(lambda: "the pool stays as it is" in caplog.text)
        assert await ask(pool) in "abc"
        assert len(pool.roster.dispatch.members) == 3


async def test_a_server_that_is_not_there_yet_joins_when_it_is(tmp_path: Path) -> None:
    fakes = {"a": Fake("a")}
    servers = [{"name": "a", "model": "a"}, {"name": "late", "model": "late"}]
    async with fleet(tmp_path, fakes, servers=servers) as (pool, _):
        assert len(pool.roster.dispatch.members) == 1
        fakes["late"] = Fake("late")
        await until(lambda: len(pool.roster.dispatch.members) == 2)


async def test_an_adapter_is_asked_where_it_is(tmp_path: Path) -> None:
    fakes = three()
    fakes["b"].script = replace(fakes["b"].script, adapters={"loud": str.upper})
    async with fleet(tmp_path, fakes) as (pool, _):
        assert pool.adapters == ("loud",)
        stream = pool.stream(prompt_of(pool), SHORT, "loud")
        assert "".join([delta.text async for delta in stream]) == "HELLO"
        with pytest.raises(EngineError):
            async for _ in pool.stream(prompt_of(pool), SHORT, "nobody"):
                pass


def test_servers_with_different_templates_are_no_pool(tmp_path: Path) -> None:
    from chatkit.template import ChatTemplate

    fakes = three()
    tokenizer = fakes["b"].template.tokenizer
    fakes["b"].template = ChatTemplate(tokenizer, "{{ messages[0].content }}")
    made = Fleet(tmp_path / "pool.yaml", fakes)
    made.write()
    with pytest.raises(InputError, match="servers of one pool must have the same model") as refused:
        open_pool("pool:x", made.path, made.open)
    assert str(fakes["b"].template.identity) in str(refused.value)


def test_a_pool_that_nobody_serves_is_refused(tmp_path: Path) -> None:
    made = Fleet(tmp_path / "pool.yaml", {"a": Fake("a")})
    made.write(servers=[{"name": "x", "model": "x"}])
    with pytest.raises(EngineError, match=r"No server of fleet can be reached \(x\)"):
        open_pool("pool:x", made.path, made.open)


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ({"queu": {}}, "did you mean queue?"),
        ({"queue": {"limit": -1}}, "The option limit of queue is -1"),
        ({"servers": []}, "servers"),
        ({"servers": [{"name": "a", "model": "a"}] * 2}, "Two servers are called 'a'"),
    ],
)
def test_a_wrong_file_is_one_sentence(tmp_path: Path, said: dict[str, Any], sentence: str) -> None:
    made = Fleet(tmp_path / "pool.yaml", {"a": Fake("a")})
    made.write(**said)
    with pytest.raises(InputError, match=sentence.replace("?", r"\?")):
        open_pool("pool:x", made.path, made.open)


def test_a_key_that_is_missing_is_named(tmp_path: Path) -> None:
    made = Fleet(tmp_path / "pool.yaml", {})
    made.write(servers=[{"name": "a", "model": "scripted:", "api_key_env": "MY_KEY"}])
    with pytest.raises(InputError, match="put it into MY_KEY"):
        open_engine(f"pool:{made.path}")
    made.write(servers=[{"name": "a", "model": f"pool:{made.path}"}])
    with pytest.raises(InputError, match="is a pool itself"):
        open_engine(f"pool:{made.path}")


@pytest.mark.lengthy
async def test_real_servers_by_their_names_with_keys_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with wire_server(saying("one"), api_key="k1") as one, wire_server(saying("two")) as two:
        made = Fleet(tmp_path / "pool.yaml", {})
        made.write(
            servers=[
                {"name": "one", "model": f"tgi:{one.url}", "api_key_env": "KEY_ONE"},
                {"name": "two", "model": f"openai:{two.url}/scripted:#scripted:"},
            ]
        )
        monkeypatch.setenv("KEY_ONE", "k1")
        pool = await asyncio.to_thread(open_engine, f"pool:{made.path}")
        assert {await ask(pool, f"question {n}") for n in range(4)} == {"one", "two"}
        await pool.close()


async def test_the_chat_service_stores_who_answered_and_who_asked(tmp_path: Path) -> None:
    fakes = {"a": Fake("a"), "spare": Fake("spare")}
    users: list[str] = []

    class Watching(Fake):
        async def stream(self, prompt, sampling, adapter=None):  # type: ignore[no-untyped-def, override]
            users.append(prompt.user)
            async with aclosing(super().stream(prompt, sampling, adapter)) as deltas:
                async for delta in deltas:
                    yield delta

    fakes["spare"] = Watching("spare")
    servers = [{"name": "a", "model": "a"}]
    async with fleet(tmp_path, fakes, servers=servers, fallback="spare") as (pool, _):
        fakes["a"].ill = EngineError("it burns")
        service = await open_chat_service(settings(), ScriptedModels(pool), titles=False)  # type: ignore[arg-type]
        try:
            conversation = await service.begin("ada")
            turn = await service.send("ada", conversation, "hi", AnswerOptions("pool:x", SHORT))
            events = [one async for one in service.subscribe("ada", conversation, turn.answer)]
            stored = await service.store.nodes.find("ada", conversation, turn.answer)
        finally:
            await service.close()
    assert stored.message.content == "spare" and stored.facts is not None
    assert stored.facts.model == "spare"
    assert events[-1].facts["model"] == "spare"
    assert users == ["ada"]


@pytest.mark.lengthy
@given(st.lists(st.tuples(st.sampled_from("abcd"), st.booleans()), max_size=60))
def test_a_fair_queue_serves_everybody_once_and_nobody_twice_in_a_round(
    steps: list[tuple[str, bool]],
) -> None:
    queue: FairQueue[int] = FairQueue()
    for number, (user, _) in enumerate(steps):
        queue.push(user, number)
    served: list[tuple[str, int]] = []
    while len(queue):
        user, head = queue.heads()[0]
        assert queue.take(user) == head
        served.append((user, head))
    assert sorted(number for _, number in served) == list(range(len(steps)))
    for user in "abcd":
        mine = [number for who, number in served if who == user]
        assert mine == sorted(mine)
    for place, (user, _) in enumerate(served[:-1]):
        later = {who for who, _ in served[place + 1 :]}
        assert served[place + 1][0] != user or later == {user}


@pytest.mark.lengthy
@given(st.lists(st.integers(0, 3), max_size=80), st.lists(st.integers(0, 3), max_size=80))
def test_two_prompts_share_a_path_exactly_as_far_as_they_are_equal(
    one: list[int], other: list[int]
) -> None:
    first, second = path_of(one, 4), path_of(other, 4)
    common = next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), None)
    equal = min(len(one), len(other)) if common is None else common
    assert [a == b for a, b in zip(first, second, strict=False)] == [
        4 * (n + 1) <= equal for n in range(min(len(first), len(second)))
    ]


def test_what_is_remembered_of_prompts_is_bounded() -> None:
    affinity: Affinity[str] = Affinity(10)
    for number in range(100):
        affinity.note(path_of([number] * 4, 4), "a")
    assert len(affinity) == 10
    affinity.forget("a")
    assert len(affinity) == 0


def test_a_breaker_opens_tries_one_request_and_waits_longer_each_time() -> None:
    now = [0.0]
    options = BreakerOptions(failures=2, pause_seconds=1, longest_seconds=3)
    breaker = Breaker(options, lambda: now[0])
    for _ in range(2):
        breaker.fail(breaker.take())
    assert breaker.state == "open" and not breaker.admits
    for pause in (1, 2, 3, 3):
        now[0] += pause
        assert breaker.state == "half-open" and breaker.admits
        probe = breaker.take()
        assert probe and not breaker.admits
        breaker.fail(probe)
        assert breaker.state == "open"
        now[0] += 0.74 * pause if pause < 3 else 0
    now[0] += 3
    breaker.succeed(breaker.take())
    assert breaker.state == "closed" and breaker.admits


def test_the_example_is_a_configuration() -> None:
    example = Path(__file__).parent.parent / "serve" / "pool.example.yaml"
    assert [server.name for server in read_configuration(example).servers] == ["gpu", "vllm"]
