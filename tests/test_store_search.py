"""Search over one's own messages: the same with encryption, by reading, and without, by index."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from scripted_service import USER
from stores import begun, chain, opened_store

from chatkit.errors import InputError
from chatkit.store.opening import Store

pytest_plugins = "store_fixtures"
pytestmark = pytest.mark.anyio

WORD = re.compile(r"\w+")
SAID = (
    "The tide comes in twice a day.",
    "Tides, tides and more TIDES.",
    "Ebbe und Flut an der Straße von Gibraltar",
    "Žluťoučký kůň úpěl ďábelské ódy",
    "call chat.py with foo_bar=3.14 or mail ada@example.com",
    "see https://example.com/path/to?page=7#end",
    "İstanbul'da gelgit",
    "一日二回 潮が満ちる",
    'a "quoted" line\nand a second with a\\backslash',
    "x" * 3_000 + " needle " + "y" * 3_000,
)
FOUND = [
    ("tide", {0, 1}),
    ("TIDE twice", {0}),
    ("tide ebb", set()),
    ("straße", {2}),
    ("STRASSE", {2}),
    ("kůň", {3}),
    ("KŮŇ", {3}),
    ("kun", set()),
    ("foo_bar", {4}),
    ("bar", set()),
    ("14", {4}),
    ("py", {4}),
    ("example", {4, 5}),
    ("path", {5}),
    ("page 7", {5}),
    ("ada", {4}),
    ("İstanbul", {6}),
    ("gelgit", {6}),
    ("潮が", {7}),
    ("二回", set()),
    ("quoted", {8}),
    ("second", {8}),
    ("backslash", {8}),
    ("needle", {9}),
]


@pytest.fixture(
    params=["sqlite sealed", "sqlite", pytest.param("postgres", marks=pytest.mark.services)]
)
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Read what is sealed, which no database has a part in, or ask each one's index."""
    name, _, sealed = str(request.param).partition(" ")
    monkeypatch.setenv("CHATKIT_ENCRYPTION", "on" if sealed else "off")
    return name


@asynccontextmanager
async def filled() -> AsyncIterator[tuple[Store, str, list[str]]]:
    """Open a store in which everything was said."""
    async with opened_store() as store:
        conversation = await begun(store)
        yield store, conversation, list(await chain(store, conversation, SAID))


async def test_words_are_found_wherever_they_begin(database: str) -> None:
    async with filled() as (store, _, names):
        for query, expected in FOUND:
            hits = await store.search.find(USER, query)
            assert {names.index(hit.node) for hit in hits} == expected, query


async def test_the_best_fit_comes_first_with_the_words_around_it(database: str) -> None:
    async with filled() as (store, conversation, names):
        first, second = await store.search.find(USER, "tide")
        assert (first.node, first.conversation, first.role) == (names[1], conversation, "assistant")
        assert first.score > second.score
        assert first.snippet == SAID[1]
        assert await store.search.find(USER, "tide", limit=1) == (first,)
        (hit,) = await store.search.find(USER, "needle")
        assert "needle" in hit.snippet and len(hit.snippet) < 200
        assert hit.snippet.startswith("…") and hit.snippet.endswith("…")


async def test_only_ones_own_messages_are_found(database: str) -> None:
    async with filled() as (store, _, _names):
        await chain(store, await begun(store, "bob"), ["a tide of his own"], user="bob")
        assert len(await store.search.find("bob", "tide")) == 1
        assert len(await store.search.find(USER, "tide")) == 2
        assert await store.search.find("eve", "tide") == ()


async def test_what_was_deleted_is_not_found(database: str) -> None:
    async with filled() as (store, conversation, _):
        other = await begun(store)
        await chain(store, other, ["another tide"])
        await store.erasure.conversation(USER, conversation)
        (hit,) = await store.search.find(USER, "tide")
        assert hit.conversation == other


async def test_a_query_without_a_word_or_too_long_is_refused(database: str) -> None:
    async with filled() as (store, _, _names):
        for query in ("", "  ", "?!-*", "\x00", "\ud800", "w" * 501):
            with pytest.raises(InputError, match="at least one word"):
                await store.search.find(USER, query)


@pytest.mark.lengthy
async def test_no_query_is_an_error_of_the_database(database: str) -> None:
    async with filled() as (store, _, names):

        @hypothesis_settings(max_examples=60)
        @given(query=st.text(max_size=60) | st.sampled_from(SAID))
        @example(query='" OR node_text MATCH "x')
        @example(query="NEAR(a b) AND NOT c* : ^d")
        @example(query="a & b | !c <-> d:* ' \\ %")
        @example(query="'); DROP TABLE nodes; --")
        @example(query="a\x00b \ud800c")
        @example(query="_ __ _a_")
        def any_query(query: str) -> None:
            queries.append(query)

        queries: list[str] = []
        any_query()
        for query in queries:
            try:
                hits = await store.search.find(USER, query)
            except InputError:
                continue
            assert {hit.node for hit in hits} <= set(names)


@pytest.mark.lengthy
@hypothesis_settings(
    max_examples=6,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(said=st.lists(st.text(min_size=1, max_size=80), min_size=1, max_size=6))
@example(said=["v1.2-rc3 a_b 1e5 0x1F -7 ŉ ﬁn ǅ ᾳ", "e\u0301 नमस्ते", "\x01ctl\x00nul"])
async def test_index_and_reading_find_the_same(
    database: str, own_home: Path, monkeypatch: pytest.MonkeyPatch, said: list[str]
) -> None:
    words = [word for text in said for word in WORD.findall(text)][:20]
    found: dict[str, list[set[int]]] = {}
    for encryption in ("on", "off"):
        monkeypatch.setenv("CHATKIT_ENCRYPTION", encryption)
        # A key store keeps to one way; the database need not.
        monkeypatch.setenv("CHATKIT_KEYS_URL", f"sqlite:///{own_home}/keys_{encryption}.db")
        async with opened_store() as store:
            user = f"reader {encryption}"
            names = await chain(store, await begun(store, user), said, user=user)
            found[encryption] = [
                {names.index(hit.node) for hit in await store.search.find(user, word)}
                for word in words
            ]
            await store.erasure.user(user)
    assert found["on"] == found["off"]
    for word, hits in zip(words, found["on"], strict=True):
        assert {n for n, text in enumerate(said) if word in WORD.findall(text)} <= hits


@pytest.mark.lengthy
async def test_the_longest_message_is_indexed(database: str) -> None:
    async with opened_store() as store:
        conversation = await begun(store)
        long = " ".join(f"{number:x}ж語" for number in range(30_000))[:200_000]
        await chain(store, conversation, [f"{long} zebra"])
        assert len(await store.search.find(USER, "zebra")) == 1
