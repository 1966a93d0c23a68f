"""`chatkit.compare`: several models, the same prompts, one that fails among them."""

import json
import threading
from pathlib import Path
from typing import NoReturn

import pytest
from paced_engine import PacedEngine, open_paced

import chatkit
from chatkit import Comparison
from chatkit.comparison.differing import marked_differences
from chatkit.comparison.result import Reply
from chatkit.engines.opening import SESSION
from chatkit.errors import InputError
from chatkit.messages import user
from chatkit.models import shared_models
from chatkit.sampling import Sampling

PY, CLASS = 'data-language="py"', 'class="language-py"'
MODELS = ["scripted:", "scripted:other"]


@pytest.fixture
def compared() -> Comparison:
    return chatkit.compare(MODELS, ["What is a tide?", "Say <b>more</b>."])


def test_every_model_answers_every_prompt(compared: Comparison) -> None:
    assert len(compared.replies) == 4
    reply = compared.replies[0, "scripted:"]
    assert (reply.text, reply.error, reply.done) == ("You said: What is a tide?", "", True)
    assert reply.tokens == len(reply.text) + 1 or reply.tokens == len(reply.text)
    assert set(compared.templates) == set(MODELS)


def test_a_model_that_the_notebook_has_loaded_is_not_loaded_again() -> None:
    loaded = chatkit.load("scripted:once")
    assert loaded.options(Sampling()).load == SESSION
    chatkit.compare(["scripted:once"], ["hi"])
    assert shared_models().names.count("scripted:once") == 1


def test_a_model_that_fails_spoils_no_other() -> None:
    found = chatkit.compare(["scripted:", "nowhere-7b"], ["hi"])
    assert found.replies[0, "scripted:"].text == "You said: hi"
    assert "nowhere-7b" in found.replies[0, "nowhere-7b"].error
    assert found.summary.loc["nowhere-7b", "failed"] == 1


def test_a_fault_of_an_engine_is_told_in_its_column(monkeypatch: pytest.MonkeyPatch) -> None:
    class Faulty(PacedEngine):
        def stream(self, *asked: object) -> NoReturn:
            raise ZeroDivisionError("no such luck")

    monkeypatch.setattr("chatkit.models.open_engine", lambda name, options: Faulty(name=name))
    found = chatkit.compare(["scripted:faulty"], ["one", "two"])
    assert [reply.error for reply in found.replies.values()] == [
        "scripted:faulty failed (no such luck); ask again."
    ] * 2


def test_the_stop_ends_what_is_not_whole_and_keeps_what_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("chatkit.models.open_engine", open_paced)

    class Stopping:
        seconds = 0.05

        def begin(self, comparison, stop) -> None:  # type: ignore[no-untyped-def]
            self.stop = stop

        def show(self, comparison: Comparison) -> None:
            if comparison.replies.get((1, "scripted:paced"), Reply()).text:
                threading.Thread(target=self.stop).start()

        def end(self, comparison: Comparison) -> None:
            pass

    prompts = ["at once", "slowly " * 100, "never asked"]
    found = chatkit.compare(["scripted:paced"], prompts, watcher=Stopping())
    assert found.replies[0, "scripted:paced"].error == ""
    stopped = found.replies[1, "scripted:paced"]
    assert stopped.error == "stopped" and stopped.text
    assert found.replies[2, "scripted:paced"] == Reply(done=True, error="stopped")


@pytest.mark.lengthy
def test_the_frame_has_a_row_for_each_answer(compared: Comparison) -> None:
    frame = compared.frame
    assert list(frame["model"]) == MODELS * 2 and frame["tokens"].min() > 0
    assert list(compared.summary.index) == MODELS
    assert len(compared.plot().axes) == 3


def test_answers_are_text_in_the_page_and_differences_are_marked(
    compared: Comparison, tmp_path: Path
) -> None:
    compared.replies[0, "scripted:other"].text = "You said: What is a <i>wave</i>?"
    html = compared.to_html(tmp_path / "page.html")
    assert "Say &lt;b&gt;more&lt;/b&gt;." in html and "<b>" not in html
    assert "&lt;<mark>i&gt;wave&lt;/i</mark>&gt;?" in html
    assert html in (tmp_path / "page.html").read_text()


@pytest.mark.parametrize(
    ("before", "now", "marked"),
    [
        ("a b c", "a b c", "<p>a b c</p>"),
        ("a b", "a c", "<p>a <mark>c</mark></p>"),
        ("", "<x>", "<p>&lt;<mark>x</mark>&gt;</p>"),
        ("", "1. **b**", "<ol>\n<li><strong><mark>b</mark></strong></li>\n</ol>"),
        ("", "```py\nx\n```", f"<pre {PY}><code {CLASS}><mark>x</mark>\n</code></pre>"),
        ("", "[a](http://b)", '<p><a href="http://b" rel="noopener noreferrer">a</a></p>'),
        ("", "a\ue000<script>", "<p><mark>a\ufffd&lt;script</mark>&gt;</p>"),
    ],
)
def test_words_that_are_new_are_marked(before: str, now: str, marked: str) -> None:
    assert marked_differences(before, now).strip() == marked


def test_it_is_saved_and_loaded_whole(compared: Comparison, tmp_path: Path) -> None:
    compared.prefer(0, *MODELS, 1)
    compared.save(tmp_path / "compared.json")
    assert Comparison.load(tmp_path / "compared.json") == compared


@pytest.mark.lengthy
def test_votes_become_ratings_and_preference_pairs(compared: Comparison, tmp_path: Path) -> None:
    compared.replies[0, "scripted:other"].text = "A wave."
    for _ in range(3):
        compared.prefer(0, *MODELS, 0)
    compared.prefer(1, *MODELS, 0.5)
    assert list(compared.ratings()) == ["scripted:other", "scripted:"]
    assert compared.to_preferences(tmp_path / "pairs.jsonl") == 3
    pair = json.loads((tmp_path / "pairs.jsonl").read_text().splitlines()[0])
    assert (pair["chosen"], pair["rejected"]) == ("A wave.", "You said: What is a tide?")


def test_the_pairs_are_what_fine_tuning_reads(compared: Comparison, tmp_path: Path) -> None:
    from chatkit.finetuning.formats import find_format

    compared.replies[0, "scripted:other"].text = "A wave."
    compared.prefer(0, *MODELS, 1)
    compared.to_preferences(tmp_path / "pairs.jsonl")
    assert (
        find_format(json.loads((tmp_path / "pairs.jsonl").read_text())).name == "preference pairs"
    )


@pytest.mark.parametrize(
    ("models", "prompts", "said"),
    [
        ([], ["hi"], "needs a model"),
        (["scripted:"], [], "needs a model and a prompt"),
        (["scripted:", "scripted:"], ["hi"], "named twice"),
        (["scripted:"], [" "], "is empty"),
        (["scripted:"], [[user("")]], "is empty"),
    ],
)
def test_bad_input_is_refused(models: list[str], prompts: list[str], said: str) -> None:
    with pytest.raises(InputError, match=said):
        chatkit.compare(models, prompts)


def test_a_vote_needs_two_answers(compared: Comparison) -> None:
    for arguments in ((0, "scripted:", "scripted:", 1), (7, *MODELS, 1), (0, *MODELS, 2)):
        with pytest.raises(InputError):
            compared.prefer(*arguments)


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "other.json").write_text("[]")
    with pytest.raises(InputError, match="is no comparison"):
        Comparison.load(tmp_path / "other.json")
