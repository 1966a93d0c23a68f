"""The sidebar and its visitor, without a browser, on a real store."""

import asyncio
import json

import pytest
from test_app_talk import OTHER_TOKEN, TOKEN, Page, pages, until

from chatkit.errors import InputError
from chatkit.ui.preferences import Preferences, read_preferences
from chatkit.ui.visitor import visitor_of

pytestmark = [pytest.mark.anyio, pytest.mark.lengthy]


async def talked(page: Page, *texts: str) -> list[str]:
    """Begin a conversation with each text, and give their names."""
    found = []
    for text in texts:
        page.hear(type="new")
        await until(lambda: page.conversation == "")
        await page.send(text)
        await until(
            lambda: [one["state"] for one in page.paper.bubbles.values()] == ["sent", "done"]
        )
        found.append(page.conversation)
    await until(lambda: len(page.board.items) >= len(texts))
    return found


async def test_conversations_are_listed_newest_first() -> None:
    async with pages() as page:
        one = page()
        names = await talked(one, "first", "second")
        assert [item["id"] for item in one.board.items] == names[::-1]
        other = page(OTHER_TOKEN)
        await until(lambda: other.talk._library._shown is not None)
        assert other.board.items == []


async def test_another_conversation_is_opened() -> None:
    async with pages() as page:
        one = page()
        first, _ = await talked(one, "first", "second")
        one.talk.hear({"type": "open", "conversation": first})
        await until(lambda: one.paper.texts == ["first", "You said: first"])


async def test_a_title_is_changed_and_an_empty_one_is_not_taken() -> None:
    async with pages() as page:
        one = page()
        (name,) = await talked(one, "first")
        one.hear(type="library", do="rename", of=name, title="Tides <b>")
        await until(lambda: one.board.titles == ["Tides <b>"])
        one.hear(type="library", do="rename", of=name, title="  ")
        one.hear(type="library", do="pin", of=name, pinned=True)
        await until(lambda: one.board.items[0]["pinned"])
        assert one.board.titles == ["Tides <b>"]


async def test_a_deletion_waits_and_can_be_undone() -> None:
    async with pages() as page:
        one = page()
        (name,) = await talked(one, "first")
        one.hear(type="library", do="delete", of=name)
        await until(lambda: one.board.items == [] and one.board.undo == name)
        assert one.conversation == ""
        one.hear(type="library", do="undo", of=name)
        await until(lambda: len(one.board.items) == 1)
        one.hear(type="library", do="delete", of=name)
        await until(lambda: one.board.items == [])


async def test_who_leaves_before_the_time_is_over_has_deleted_it() -> None:
    async with pages() as page:
        one = page()
        (name,) = await talked(one, "first")
        one.hear(type="library", do="delete", of=name)
        await until(lambda: one.board.undo == name)
        one.talk.close()
        other = page()
        await until(lambda: len(other.board.items) == 1)
        async with asyncio.timeout(20):
            while other.board.items:
                other.hear(type="library", do="more")
                await asyncio.sleep(0.1)


async def test_words_are_found_with_where_they_stand() -> None:
    async with pages() as page:
        one = page()
        first, _ = await talked(one, "volcanoes are hot", "bread")
        one.hear(type="library", do="find", query="volcanoes")
        await until(lambda: bool(one.board.found))
        assert {hit["id"] for hit in one.board.found} == {first}
        assert "volcanoes" in one.board.found[0]["snippet"]
        one.hear(type="library", do="find", query=" ")
        await until(lambda: one.board.found == [])


@pytest.mark.parametrize(
    ("kind", "media", "begins"),
    [
        ("md", "text/markdown", "# "),
        ("json", "application/json", "{"),
        ("html", "text/html", "<!doctype html>"),
    ],
)
async def test_a_conversation_is_saved_as_a_file(kind: str, media: str, begins: str) -> None:
    async with pages() as page:
        one = page()
        (name,) = await talked(one, "about <i>tides</i>")
        one.hear(type="library", do="export", of=name, kind=kind)
        await until(lambda: bool(one.board.file[0]))
        file, told, text = one.board.file
        assert file.endswith(f".{kind}") and told == media and text.startswith(begins)
        assert ("<i>" in text) == (kind != "html")


async def test_what_was_exported_is_imported() -> None:
    async with pages() as page:
        one = page()
        await talked(one, "first", "second")
        one.hear(type="library", do="export all")
        await until(lambda: bool(one.board.file[0]))
        other = page(OTHER_TOKEN)
        other.hear(type="library", do="import", name="all.json", text=one.board.file[2])
        await until(lambda: len(other.board.items) == 2)
        assert sorted(other.board.titles) == sorted(one.board.titles)


async def test_a_file_that_is_no_export_is_one_sentence() -> None:
    async with pages() as page:
        one = page()
        one.hear(type="library", do="import", name="x<b>.json", text="[1, 2")
        await until(lambda: "x<b>.json" in one.paper.said)
        assert one.board.items == []


async def test_nobody_reaches_the_conversations_of_others() -> None:
    async with pages() as page:
        one = page()
        (name,) = await talked(one, "mine")
        for wish in (
            {"do": "rename", "title": "x"},
            {"do": "pin", "pinned": True},
            {"do": "delete"},
            {"do": "export", "kind": "md"},
        ):
            other = page(OTHER_TOKEN)
            other.hear(type="library", of=name, **wish)
            await until(lambda page=other: bool(page.paper.said))
            assert other.board.file == ("", "", "") and other.board.undo == ""
        assert len(one.board.items) == 1


async def test_a_temporary_chat_is_in_no_list() -> None:
    async with pages() as page:
        one = page()
        one.hear(type="new", temporary=True)
        await until(lambda: one.paper.view.temporary)
        await one.send("secret")
        await until(lambda: one.paper.texts[-1:] == ["You said: secret"])
        assert one.paper.view.temporary and one.board.items == []
        one.hear(type="new")
        await until(lambda: not one.paper.view.temporary)


async def test_preferences_are_kept_for_the_next_page() -> None:
    async with pages() as page:
        one = page()
        values = {"theme": "contrast", "text_size": 20, "still": True, "nonsense": 1}
        one.hear(type="library", do="prefer", values=values)
        await until(lambda: one.board.preferences.theme == "contrast")
        other = page()
        await until(lambda: other.board.preferences.text_size == 20)
        assert other.board.preferences.still and other.board.preferences.enter_sends


async def test_consent_to_training_is_what_fine_tuning_asks_for() -> None:
    async with pages() as page:
        one = page()
        await until(lambda: one.talk._user != "")
        one.hear(type="library", do="prefer", values={"trains": True})
        await until(lambda: one.board.preferences.trains)
        assert (await one.service.preferences(visitor_of(TOKEN)))["training"] is True
        other = page()
        await until(lambda: other.board.preferences.trains)


async def test_what_was_changed_in_another_tab_stays_changed() -> None:
    async with pages() as page:
        one, other = page(), page()
        await until(lambda: other.talk._library._shown is not None)
        one.hear(type="library", do="prefer", values={"trains": True})
        await until(lambda: one.board.preferences.trains)
        other.hear(type="library", do="prefer", values={"still": True})
        await until(lambda: other.board.preferences.still)
        one.hear(type="library", do="prefer", values={"trains": False})
        await until(lambda: not one.board.preferences.trains)
        other.hear(type="library", do="prefer", values={"text_size": 18})
        await until(lambda: other.board.preferences.text_size == 18)
        stored = await one.service.preferences(visitor_of(TOKEN))
        assert stored["training"] is False and stored["app"]["still"] is True


async def test_a_pinned_conversation_at_the_end_of_a_page_is_listed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("chatkit.ui.library.PAGE", 1)
    async with pages() as page:
        one = page()
        first, second = (await talked(one, "first"))[0], (await talked(one, "second"))[0]
        one.hear(type="library", do="pin", of=first, pinned=True)
        await until(lambda: {item["id"] for item in one.board.items} == {first, second})


async def test_a_preference_out_of_range_is_one_sentence() -> None:
    async with pages() as page:
        one = page()
        one.hear(type="library", do="prefer", values={"text_size": 200})
        await until(lambda: "12 to 24 pixels" in one.paper.said)


def test_preferences_that_cannot_be_read_are_the_usual_ones() -> None:
    assert read_preferences(None) == read_preferences("x") == Preferences()
    assert read_preferences({"theme": "pink", "pinned": ["a", 1]}) == Preferences(pinned=("a",))
    assert read_preferences({"theme": 3, "text_size": "x"}) == Preferences()
    whole = Preferences(
        theme="dark",
        text_size=20,
        language="pt-BR",
        still=True,
        enter_sends=False,
        speaks=False,
        notifies=True,
        pinned=("a",),
        folders=(("Sky", ("a", "b")),),
        prompts=(("sum", "Sum {{it}}"),),
    )
    assert read_preferences(json.loads(json.dumps(whole.to_json()))) == whole
    with pytest.raises(InputError, match="no language"):
        Preferences(language="<script>")
    with pytest.raises(InputError, match="no theme"):
        Preferences("pink")  # type: ignore[arg-type]


def test_a_conversation_is_in_one_folder_and_an_empty_folder_is_gone() -> None:
    filed = Preferences().file("a", " Sky  blue ").file("b", "Sky blue").file("a", "Sea")
    assert filed.folders == (("Sea", ("a",)), ("Sky blue", ("b",)))
    assert filed.file("b", "").folders == (("Sea", ("a",)),)
    assert filed.rename_folder("Sea", "Sky blue").folders == (("Sky blue", ("a", "b")),)
    assert filed.rename_folder("Sea", "").folders == (("Sky blue", ("b",)),)
    with pytest.raises(InputError, match="may have 40"):
        filed.file("a", "x" * 41)


def test_there_are_not_too_many_folders() -> None:
    many = Preferences()
    for number in range(50):
        many = many.file(str(number), f"folder {number}")
    with pytest.raises(InputError, match="there may be 50 with 500"):
        many.file("one more", "one more")
