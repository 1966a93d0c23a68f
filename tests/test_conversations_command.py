"""`python -m chatkit conversations`: what is stored, in the hands of who wrote it."""

import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from command import ran, run
from scripted_service import USER, opened
from sqlalchemy import text as sql
from sqlalchemy import update
from stores import answer_to, begun, chain, opened_store, rows
from test_store_votes import VOTE

from chatkit.background import wait_for
from chatkit.cli.opening import LOCAL_USER
from chatkit.engines.scripted import Script
from chatkit.errors import StoreUnavailable
from chatkit.exchange.reading import read_conversations
from chatkit.shelf import LOCAL_USER as SHELF_USER
from chatkit.store.opening import Store
from chatkit.store.records import Feedback
from chatkit.store.schema import audit, conversation_keys, heads, metadata, nodes

pytest_plugins = "store_fixtures"

ME = ("--user", USER)


def filled() -> tuple[str, str]:
    """Store two conversations, one of them with branches, and give their names."""

    async def fill() -> tuple[str, str]:
        async with opened_store() as store:
            tides = await begun(store, title="Tides", system="Be brief.")
            names = await chain(store, tides, ["What makes the tide?", "The moon.", "And?", "Sun."])
            await chain(store, tides, ["Something else?", "No."])
            await store.nodes.set_head(USER, tides, names[-1])
            await store.opinions.give(USER, tides, names[1], Feedback("up", (), "good"))
            await store.opinions.prefer(USER, {"tone": "dry"})
            return tides, await begun(store, title="Bread")

    return wait_for(fill())


def test_the_local_user_is_the_one_of_notebooks_and_terminals() -> None:
    assert LOCAL_USER == SHELF_USER


def test_the_list_is_newest_first_and_aligned(database: str) -> None:
    tides, bread = filled()
    header, first, second = ran("conversations", "list", *ME).splitlines()
    assert header.split() == ["id", "updated", "title"]
    assert first.startswith(bread) and first.endswith("  Bread")
    assert second.startswith(tides) and second.endswith("  Tides")
    assert header.index("title") == first.index("Bread") == second.index("Tides")
    assert len(second) <= 80


def test_the_list_as_json_says_everything_of_a_conversation() -> None:
    tides, bread = filled()
    first, second = json.loads(ran("conversations", "list", "--json", *ME))
    assert (first["id"], second["id"], second["title"]) == (bread, tides, "Tides")
    assert second["system"] == "Be brief." and second["forked_from"] is None


def test_a_long_list_says_that_there_is_more() -> None:
    filled()
    said = run("conversations", "list", "--limit", "1", *ME)
    assert len(said.out.splitlines()) == 2 and "more" in said.error


def test_an_empty_list_prints_nothing_into_a_pipe() -> None:
    said = run("conversations", "list")
    assert said.out == "" and "no conversations of 'local'" in said.error


@pytest.mark.lengthy
def test_what_people_write_cannot_move_the_cursor() -> None:
    async def fill() -> str:
        async with opened_store() as store:
            id = await begun(store, title="a\x1b[2Jb\u202ec")
            await chain(store, id, ["one\x1b[31mtwo\x9b1m\n\tthree"])
            return id

    id = wait_for(fill())
    shown = ran("conversations", "list", *ME) + ran("conversations", "show", id, *ME)
    shown += ran("conversations", "search", "three", *ME)
    assert not {"\x1b", "\x9b", "\u202e"} & set(shown)
    assert "one [31mtwo 1m\n\tthree" in shown


def test_show_follows_the_path_to_where_its_reader_stands(database: str) -> None:
    tides, _ = filled()
    shown = ran("conversations", "show", tides, *ME)
    lines = [line for line in shown.splitlines() if line and " · " not in line]
    assert lines[0] == "Tides" and lines[1].startswith(tides)
    said = ["system", "Be brief.", "What makes the tide?", "The moon.", "And?", "Sun."]
    assert lines[2:] == said
    assert "branch 1/2" in shown and "Something else?" not in shown


def test_show_all_gives_every_branch(database: str) -> None:
    tides, _ = filled()
    before, _, after = ran("conversations", "show", tides, "--all", *ME).partition("Other branches")
    assert "Sun." in before and "Something else?" not in before
    assert "Something else?" in after and "at the beginning" in after and "branch 2/2" in after


def test_show_as_json_is_a_tree(database: str) -> None:
    tides, _ = filled()
    shown = json.loads(ran("conversations", "show", tides, "--all", "--json", *ME))
    named = {message["id"]: message for message in shown["messages"]}
    assert len(named) == 6 and shown["head"] in named
    assert sum(message["on_path"] for message in named.values()) == 4
    assert all(message["parent"] in {None, *named} for message in named.values())


@pytest.mark.lengthy
def test_show_goes_back_over_many_messages() -> None:
    async def fill() -> str:
        async with opened_store() as store:
            id = await begun(store)
            await chain(store, id, [f"text {number}" for number in range(1_201)])
            return id

    shown = json.loads(ran("conversations", "show", wait_for(fill()), "--json", *ME))
    contents = [message["content"] for message in shown["messages"]]
    assert contents == [f"text {number}" for number in range(1_201)]


@pytest.mark.lengthy
def test_show_ledger_tells_what_the_model_was_not_given(database: str) -> None:
    async def fill() -> str:
        async with opened(Script(context=900)) as service:
            id = await service.begin(USER)
            for number in range(8):
                await answer_to(service, id, f"question {number} {'x' * 150}")
            return id

    shown = ran("conversations", "show", wait_for(fill()), "--ledger", *ME)
    ledgers = [line for line in shown.splitlines() if line.startswith("  | ")]
    assert "of 900 tokens sent" in ledgers[0]
    assert any("left out: " in line for line in ledgers)
    shown = json.loads(ran("conversations", "show", wait_for(fill()), "--ledger", "--json", *ME))
    assert shown["messages"][1]["ledger"]["window"] == 900


@pytest.mark.lengthy
def test_search_shows_the_words_in_their_place(database: str) -> None:
    tides, _ = filled()
    first, second = ran("conversations", "search", "tide", "makes", *ME).splitlines()
    assert first.startswith(tides) and first.endswith("  user")
    assert second == "    What makes the tide?"
    (hit,) = json.loads(ran("conversations", "search", "moon", "--json", *ME))
    assert hit["conversation"] == tides and hit["snippet"] == "The moon."
    assert run("conversations", "search", "bicycle", *ME).out == ""


@pytest.mark.lengthy
def test_an_export_comes_back_as_an_equal_tree(database: str, tmp_path: Path) -> None:
    filled()
    file, again = tmp_path / "mine.json", tmp_path / "again.json"
    said = run("conversations", "export", "--output", str(file), *ME)
    assert said.out == "" and "Wrote 2 conversations" in said.error
    imported = ran("conversations", "import", str(file), "--user", "bob").splitlines()
    assert len(imported) == 3 and imported[0].split() == ["id", "messages", "title"]
    ran("conversations", "export", "--output", str(again), "--user", "bob")
    assert shapes(again) == shapes(file)
    assert file.stat().st_mode & 0o777 == 0o600


def shapes(file: Path) -> set[tuple[Any, ...]]:
    """Tell what is said in the conversations of an export, whatever its messages are called."""
    found = set()
    for one in read_conversations(file):
        texts = {node.id: node.message.content for node in one.nodes}
        tree = [(texts.get(node.parent or ""), texts[node.id]) for node in one.nodes]
        head = texts.get(one.head or "")
        found.add((one.title, one.system, head, tuple(tree), one.created, one.updated))
    return found


@pytest.mark.lengthy
def test_an_export_names_what_it_is_to_hold(database: str) -> None:
    tides, _ = filled()
    assert len(json.loads(ran("conversations", "export", tides, *ME))["conversations"]) == 1
    markdown = ran("conversations", "export", tides, "--format", "markdown", *ME)
    assert markdown.startswith("# Tides\n") and "Another branch" in markdown
    said = run("conversations", "export", "--format", "messages", *ME)
    assert [json.loads(line)["messages"][0] for line in said.out.splitlines()] == [
        {"role": "system", "content": "Be brief."}
    ]
    assert "Left out" in said.error
    with_others = run("conversations", "export", tides, "no such", *ME)
    assert with_others.code == 2 and with_others.out == ""


@pytest.mark.lengthy
def test_an_export_takes_no_file_s_place_without_force(tmp_path: Path) -> None:
    filled()
    file = tmp_path / "mine.json"
    file.write_text("mine")
    refused = run("conversations", "export", "--output", str(file), *ME)
    assert refused.code == 2 and "--force" in refused.error and file.read_text() == "mine"
    ran("conversations", "export", "--output", str(file), "--force", *ME)
    assert len(read_conversations(file)) == 2
    assert [path.name for path in tmp_path.glob("*.json*")] == ["mine.json"]


def test_an_export_that_fails_leaves_no_half_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled()

    async def fail(*_: object) -> None:
        raise StoreUnavailable("The database went away.")

    monkeypatch.setattr("chatkit.shelf.Shelf.export", fail)
    assert run("conversations", "export", "--output", str(tmp_path / "mine.json"), *ME).code
    assert not list(tmp_path.glob("*mine*"))


def test_a_broken_file_imports_nothing(database: str, tmp_path: Path) -> None:
    filled()
    file = tmp_path / "mine.json"
    ran("conversations", "export", "--output", str(file), *ME)
    file.write_text(file.read_text("utf-8")[:-20], "utf-8")
    refused = run("conversations", "import", str(file), "--user", "bob")
    assert refused.code == 2 and "mine.json" in refused.error
    assert "cannot be read" in run("conversations", "import", str(tmp_path / "none.json")).error
    assert run("conversations", "list", "--user", "bob").out == ""


@pytest.mark.lengthy
def test_an_import_that_is_repeated_after_a_broken_connection_comes_in_once(
    database: str, tmp_path: Path
) -> None:
    filled()
    file = tmp_path / "mine.json"
    ran("conversations", "export", "--output", str(file), *ME)

    async def import_twice() -> int:
        async with opened_store() as store:
            backend: Any = store.database._backend
            once = backend.write

            async def twice(operation: Any, durability: Any) -> Any:
                await once(operation, durability)
                return await once(operation, durability)

            backend.write = twice
            await store.copies.take_in("bob", read_conversations(file))
            return len(await store.conversations.ids("bob"))

    assert wait_for(import_twice()) == 2


@pytest.mark.lengthy
def test_delete_asks_nobody_in_a_pipe(database: str) -> None:
    tides, bread = filled()
    refused = run("conversations", "delete", tides, *ME)
    assert refused.code == 2 and "--yes" in refused.error
    wrong = run("conversations", "delete", tides, "no such", "--yes", *ME)
    assert wrong.code == 2 and "no such" in wrong.error
    assert tides in ran("conversations", "list", *ME)
    assert ran("conversations", "delete", tides, "--yes", *ME) == "Deleted 1 conversation.\n"
    (left,) = json.loads(ran("conversations", "list", "--json", *ME))
    assert left["id"] == bread


@pytest.mark.lengthy
def test_delete_everything_takes_the_user_along(database: str) -> None:
    filled()
    ran("conversations", "delete", "--everything", "--yes", *ME)
    assert run("conversations", "list", *ME).out == ""

    async def left() -> list[tuple[Any, ...]]:
        async with opened_store() as store:
            return await rows(store, "SELECT id FROM users")

    assert wait_for(left()) == []


@pytest.mark.parametrize("arguments", [(), ("one", "--everything")])
def test_delete_must_know_what(arguments: tuple[str, ...]) -> None:
    assert run("conversations", "delete", "--yes", *arguments).code == 2


@pytest.mark.services
def test_delete_reaches_the_live_logs_in_redis(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import redis

    monkeypatch.setenv("CHATKIT_REDIS_URL", redis_url)

    async def fill() -> str:
        async with opened() as service:
            id = await service.begin(USER)
            await answer_to(service, id, "hi")
            return id

    id = wait_for(fill())
    client = redis.Redis.from_url(redis_url)
    assert [key for key in client.scan_iter() if b"live" in key]
    ran("conversations", "delete", id, "--yes", *ME)
    assert not [key for key in client.scan_iter() if b"live" in key]
    client.close()


@pytest.mark.lengthy
def test_delete_asks_on_a_terminal() -> None:
    tides, bread = filled()
    for id, answer, code in [(tides, "n", 1), (bread, "y", 0)]:
        master, slave = pty.openpty()
        process = subprocess.Popen(
            [sys.executable, "-m", "chatkit", "conversations", "delete", id, *ME],
            stdin=slave,
            stdout=slave,
            stderr=slave,
        )
        os.close(slave)
        seen = ""
        while "[y/N]" not in seen:
            seen += os.read(master, 4096).decode()
        os.write(master, f"{answer}\n".encode())
        assert process.wait(60) == code
        os.close(master)
    assert [one["id"] for one in json.loads(ran("conversations", "list", "--json", *ME))] == [tides]


@pytest.mark.lengthy
def test_someone_else_s_conversation_does_not_exist(database: str, tmp_path: Path) -> None:
    tides, _ = filled()
    for command in (("show",), ("export",), ("delete", "--yes")):
        theirs = run("conversations", *command, tides, "--user", "eve")
        nobody = run("conversations", *command, "0" * 32, "--user", "eve")
        assert theirs.code == nobody.code == 2
        assert theirs.error == nobody.error.replace("0" * 32, tides)


@pytest.mark.lengthy
def test_verify_counts_what_is_whole(database: str) -> None:
    filled()
    said = run("conversations", "verify")
    assert said.code == 0 and said.out.endswith("Everything is whole.\n")
    found = json.loads(ran("conversations", "verify", "--json"))
    assert found == {
        "counts": {
            "users": 1,
            "conversations": 2,
            "nodes": 6,
            "answers": 0,
            "feedback": 1,
            "votes": 0,
            "accounts": 0,
            "sessions": 0,
            "heads": 1,
            "audit": 0,
        },
        "faults": 0,
        "broken": [],
    }


async def change(store: Store, statement: Any) -> None:
    async def work(connection: Any) -> None:
        await connection.execute(statement)

    await store.database.write(work)


def flipped(sealed: bytes) -> bytes:
    return sealed[:-1] + bytes([sealed[-1] ^ 1])


async def spoil_sealed(store: Store, table: str, column: str) -> None:
    """Flip one bit of one sealed text."""
    found = metadata.tables[table]
    key = next(iter(found.primary_key))
    query = f"SELECT {key.name}, {column} FROM {table} WHERE {column} IS NOT NULL"
    id, sealed = (await rows(store, query))[0]
    values = {column: flipped(bytes(sealed))}
    await change(store, update(found).where(key == id).values(**values))


@pytest.mark.lengthy
@pytest.mark.parametrize(
    ("table", "column", "about"),
    [
        ("users", "sealed_preferences", "preferences:ada"),
        ("conversations", "sealed_title", "title:"),
        ("conversations", "sealed_settings", "settings:"),
        ("nodes", "sealed", "node:"),
        ("answers", "sealed_sampling", "sampling:"),
        ("answers", "sealed_ledger", "ledger:"),
        ("answers", "sealed_error", "error:"),
        ("feedback", "sealed", "feedback:"),
        ("votes", "sealed", "vote:"),
    ],
)
def test_verify_finds_one_flipped_bit(database: str, table: str, column: str, about: str) -> None:
    async def spoil() -> None:
        async with opened(Script(fail_after=2)) as service:
            id = await service.begin(USER)
            answer = await answer_to(service, id, "hi")
            await service.feedback(USER, id, answer, Feedback("up", (), "good"))
            await service.store.opinions.prefer(USER, {"tone": "dry"})
            await service.vote(USER, VOTE)
            await spoil_sealed(service.store, table, column)

    wait_for(spoil())
    found = run("conversations", "verify", "--json")
    assert found.code == 1
    assert json.loads(found.out)["faults"] == 1
    assert json.loads(found.out)["broken"][0].startswith(about)


async def lose_a_parent(store: Store, id: str) -> None:
    await change(store, nodes.delete().where(nodes.c.number == 2))


async def lose_a_head(store: Store, id: str) -> None:
    await change(store, update(heads).values(node_id="0" * 16))


async def go_in_a_circle(store: Store, id: str) -> None:
    found = await rows(store, "SELECT id FROM nodes ORDER BY number")
    await change(store, update(nodes).where(nodes.c.number == 1).values(parent=found[1][0]))


async def move_to_another(store: Store, id: str) -> None:
    other = await begun(store)
    await change(store, update(nodes).where(nodes.c.number == 4).values(conversation_id=other))


async def lose_a_key(store: Store, id: str) -> None:
    async def work(connection: Any) -> None:
        mine = conversation_keys.c.conversation_id == id
        await connection.execute(conversation_keys.delete().where(mine))

    await store.keys._database.write(work)


async def change_the_log(store: Store, id: str) -> None:
    for _ in range(3):
        await store.audit.note(USER, "export", id)
    if store.database.is_sqlite:
        query = "SELECT name FROM sqlite_master WHERE type = 'trigger' AND tbl_name = 'audit'"
        guards = [f"DROP TRIGGER {name}" for (name,) in await rows(store, query)]
    else:
        guards = ["ALTER TABLE audit DISABLE TRIGGER ALL"]
    for guard in guards:
        await change(store, sql(guard))
    await change(store, update(audit).where(audit.c.number == 2).values(action="import"))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lose_a_parent, "its parent"),
        (lose_a_head, "of its reader is not there"),
        (go_in_a_circle, "came after it"),
        (move_to_another, "its parent"),
        (lose_a_key, "its key is not in the key store"),
        (change_the_log, "audit entry 2"),
    ],
)
def test_verify_names_what_does_not_hang_together(
    database: str, spoil: Callable[[Store, str], Any], said: str
) -> None:
    tides, _ = filled()

    async def change_it() -> None:
        async with opened_store() as store:
            await spoil(store, tides)

    wait_for(change_it())
    found = run("conversations", "verify")
    assert found.code == 1 and said in found.out and "broken." in found.out


@pytest.mark.lengthy
def test_a_known_error_is_one_sentence_and_an_exit_code() -> None:
    command = [sys.executable, "-m", "chatkit", "conversations", "show", "none"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 2 and result.stdout == ""
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1
