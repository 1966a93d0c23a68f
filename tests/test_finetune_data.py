"""Data for fine-tuning: forms, sources, judgement; no model."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from recipes import lessons, recipe, talk, write_rows

from chatkit.engines.scripted import byte_tokenizer
from chatkit.errors import InputError, UnknownModel
from chatkit.finetuning import formats
from chatkit.finetuning.duplicates import Duplicates
from chatkit.finetuning.formats import find_format
from chatkit.finetuning.gathering import KINDS, Gathering, as_kind, gather
from chatkit.finetuning.masking import IGNORED, Masker, TooLong
from chatkit.finetuning.packing import pack
from chatkit.finetuning.recipe import Recipe, read_recipe, write_recipe
from chatkit.finetuning.rows import Example, Origin, Pair, Question, Row, Thumb
from chatkit.finetuning.sources import read_records
from chatkit.finetuning.table import read_table
from chatkit.messages import assistant, system, user
from chatkit.template import ChatTemplate

ORIGIN = Origin("file.jsonl", 1)
TEMPLATE = ChatTemplate(byte_tokenizer())


def rows_of(record: dict[str, Any]) -> list[Row]:
    return formats.rows_of(record, find_format(record), ORIGIN)


def gathered(data: Recipe) -> Gathering:
    found = Gathering(data.data, KINDS[data.method], TEMPLATE)
    list(found.rows())
    return found


# Forms


@pytest.mark.parametrize(
    ("form", "record"),
    [
        ("messages", talk("hi", "hello")),
        (
            "ShareGPT",
            {
                "conversations": [
                    {"from": "human", "value": "hi"},
                    {"from": "gpt", "value": "hello"},
                ]
            },
        ),
        ("Alpaca", {"instruction": "hi", "input": "", "output": "hello"}),
        ("Self-Instruct", {"instruction": "hi", "instances": [{"input": "", "output": "hello"}]}),
        ("prompt and completion", {"prompt": "hi", "completion": "hello"}),
        ("questions", {"question": "hi", "answer": "hello"}),
    ],
)
def test_each_form_is_found_and_gives_the_same_example(form: str, record: dict[str, Any]) -> None:
    assert find_format(record).name == form
    (row,) = [one for row in rows_of(record) for one in as_kind(row, "example")]
    assert row.messages == (user("hi"), assistant("hello"))


@pytest.mark.parametrize("written", [list, json.dumps], ids=["list", "text"])
def test_the_tools_of_a_row_come_along(written: Any) -> None:
    tool = {"type": "function", "function": {"name": "add", "parameters": {}}}
    (row,) = rows_of(talk("hi", "hello") | {"tools": written([tool])})
    assert row.tools == (tool,)


@pytest.mark.parametrize("tools", ["no JSON", "[" * 5000, 5, ["add"]])
def test_tools_that_are_none_are_refused(tools: Any) -> None:
    with pytest.raises(InputError, match="its tools are"):
        rows_of(talk("hi", "hello") | {"tools": tools})


def test_a_row_whose_tools_the_template_drops_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    tool = {"type": "function", "function": {"name": "add", "parameters": {}}}
    write_rows(path, [talk("hi", "hello") | {"tools": [tool]}, *lessons(4)])
    (refused,) = gathered(recipe(path, tmp_path / "out")).report.refused
    assert (refused.line, "dropped by this chat template" in refused.reason) == (1, True)


def test_pairs_have_their_prompt_apart_or_in_both_conversations() -> None:
    apart = {"prompt": "hi", "chosen": "hello", "rejected": "go away"}
    whole = {
        "chosen": talk("hi", "hello")["messages"],
        "rejected": talk("hi", "go away")["messages"],
    }
    wanted = Pair((user("hi"),), assistant("hello"), assistant("go away"), ORIGIN)
    assert rows_of(apart) == rows_of(whole) == [wanted]


def test_a_thumb_is_up_or_down() -> None:
    record = {"prompt": "hi", "completion": "hello", "label": True}
    assert rows_of(record) == [Thumb((user("hi"),), assistant("hello"), True, ORIGIN)]
    with pytest.raises(InputError, match="true or false"):
        rows_of({**record, "label": "good"})


def test_a_system_prompt_goes_first_and_calls_of_tools_stay() -> None:
    call = {"id": "1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}
    record = {
        "system": "Be brief.",
        "messages": [
            {"role": "user", "content": "1 + 1?"},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "content": "2"},
            {"role": "assistant", "content": "Two."},
        ],
    }
    (row,) = rows_of(record)
    assert row.messages[0] == system("Be brief.")
    assert row.messages[2].tool_calls[0].name == "add"


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({"text": "hi"}, "its columns \\(text\\) are those of no known form"),
        ({"messages": [{"role": "user", "content": "hi"}]}, "no assistant's turn"),
        ({"messages": [{"role": "assistant", "content": "hi"}]}, "out of order"),
        (talk("", "hello"), "message 1 \\(user\\) is empty"),
        (talk("hi", " "), "message 2 \\(assistant\\) is empty"),
        ({"messages": [{"role": "boss", "content": "hi"}]}, "speaker 'boss'"),
        ({"messages": "hi"}, "no list of turns"),
        ({"prompt": "hi", "chosen": "a", "rejected": "a"}, "are the same"),
        ({"instruction": "hi", "output": 3}, "its output is no text"),
    ],
)
def test_what_cannot_be_trained_on_is_refused_with_its_reason(
    record: dict[str, Any], reason: str
) -> None:
    with pytest.raises(InputError, match=reason):
        rows_of(record)


def test_a_row_of_another_kind_is_used_where_that_loses_no_truth() -> None:
    pair = Pair((user("hi"),), assistant("a"), assistant("b"), ORIGIN)
    assert [one.liked for one in as_kind(pair, "thumb") if isinstance(one, Thumb)] == [True, False]
    example = Example((user("hi"), assistant("a")), ORIGIN)
    assert as_kind(example, "question") == [Question((user("hi"),), "a", ORIGIN)]
    with pytest.raises(InputError, match="learns from a pair"):
        as_kind(example, "pair")


# Sources


def test_every_kind_of_file_gives_its_records(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    rows = [{"prompt": "a", "completion": "b"}, {"prompt": "c", "completion": "d"}]
    write_rows(tmp_path / "1.jsonl", rows)
    (tmp_path / "2.json").write_text(json.dumps(rows))
    with (tmp_path / "3.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["prompt", "completion"])
        writer.writeheader()
        writer.writerows(rows)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "4.parquet")
    read = list(read_records(str(tmp_path), "train"))
    assert [one.record for one in read] == rows * 4
    assert [one.line for one in read] == [1, 2, 1, 2, 2, 3, 1, 2]


def test_a_cell_that_begins_like_endless_lists_stays_text(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("prompt\n" + "[" * 5000 + "\n")
    (read,) = read_records(str(tmp_path / "rows.csv"), "train")
    assert read.record == {"prompt": "[" * 5000}


def test_a_broken_line_is_told_and_the_others_are_read(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"a": 1}\n{"b": \n\n[1]\n\xff\n')
    read = list(read_records(str(path), "train"))
    assert [(one.line, one.record is None) for one in read] == [
        (1, False),
        (2, True),
        (4, True),
        (5, True),
    ]
    assert "JSON is broken" in read[1].problem and "no object" in read[2].problem


@pytest.mark.parametrize(("name", "reason"), [("no.jsonl", "no data at"), ("a.txt", "unknown")])
def test_a_file_that_is_not_there_or_of_another_kind_is_refused(
    tmp_path: Path, name: str, reason: str
) -> None:
    (tmp_path / "a.txt").write_text("hi")
    with pytest.raises(InputError, match=reason):
        list(read_records(str(tmp_path / name), "train"))


# Judgement


def test_refused_rows_are_told_with_file_line_and_reason_and_stop_the_run(tmp_path: Path) -> None:
    mixed = [*lessons(4), {"prompt": "hi", "completion": "ho"}, {"messages": []}]
    data = recipe(write_rows(tmp_path / "rows.jsonl", mixed), tmp_path / "out")
    told = list(map(str, gathered(data).report.refused))
    assert told[0].startswith("rows.jsonl, line 5: it is written as prompt and completion")
    assert told[1].startswith("rows.jsonl, line 6: it has no assistant's turn")
    with pytest.raises(InputError, match=r"2 rows cannot be used: rows.jsonl, line 5"):
        gather(data, TEMPLATE, tmp_path / "data")
    skipping = recipe(tmp_path / "rows.jsonl", tmp_path / "out", data__bad_rows="skip")
    _, report = gather(skipping, TEMPLATE, tmp_path / "again")
    assert report.train + report.held_out == 4


def test_nothing_to_train_on_is_an_error(tmp_path: Path) -> None:
    data = recipe(
        write_rows(tmp_path / "rows.jsonl", lessons(3)), tmp_path / "out", data__longest=8
    )
    with pytest.raises(InputError, match=r"No row is left to train on: 3 were read.*3 too long"):
        gather(data, TEMPLATE, tmp_path / "data")


def test_nobody_is_on_both_sides_of_the_held_out_line(tmp_path: Path) -> None:
    rows = [{**row, "user": f"u{n % 7}"} for n, row in enumerate(lessons(200))]
    data = recipe(write_rows(tmp_path / "rows.jsonl", rows), tmp_path / "out", data__held_out=0.4)
    found: dict[bool, set[str | None]] = {True: set(), False: set()}
    for judged in Gathering(data.data, "example", TEMPLATE).rows():
        found[judged.held_out].add(judged.row.origin.user)
    assert found[True] and found[False] and not found[True] & found[False]


def test_held_out_sources_are_never_trained_on(tmp_path: Path) -> None:
    train = write_rows(tmp_path / "train.jsonl", lessons(10))
    held = write_rows(tmp_path / "held.jsonl", lessons(4))
    data = recipe(train, tmp_path / "out", data__held_out=[{"path": str(held)}])
    report = gathered(data).report
    assert (report.train, report.held_out, report.duplicates) == (6, 4, 4)


def test_weights_say_how_often_rows_are_taken(tmp_path: Path) -> None:
    train = write_rows(tmp_path / "rows.jsonl", lessons(100))
    counts = {}
    for weight in (0.5, 1.0, 2.0):
        source = {"path": str(train), "weight": weight}
        data = recipe(train, tmp_path / "out", data__train=[source], data__held_out=0.01)
        counts[weight] = gathered(data).report.train
    assert counts[2.0] == 2 * counts[1.0] and 0.3 < counts[0.5] / counts[1.0] < 0.7


def test_a_token_budget_ends_the_data(tmp_path: Path) -> None:
    train = write_rows(tmp_path / "rows.jsonl", lessons(50))
    report = gathered(recipe(train, tmp_path / "out", data__token_budget=500)).report
    assert 500 <= report.tokens < 700 and report.over_budget > 0


@pytest.mark.lengthy
def test_the_tables_hold_what_the_report_counts(tmp_path: Path) -> None:
    data = recipe(write_rows(tmp_path / "rows.jsonl", lessons(30)), tmp_path / "out")
    files, report = gather(data, TEMPLATE, tmp_path / "data")
    train = read_table(files.train)
    assert len(train) == report.train and sum(train["length"]) == report.tokens
    assert sum(label != IGNORED for row in train["labels"] for label in row) == (
        report.trained_tokens
    )


# Duplicates


def test_the_same_row_is_seen_once_and_a_nearly_equal_one_when_asked() -> None:
    text = "The quick brown fox jumps over the lazy dog while the cat looks on from the roof. " * 3
    near = text.replace("lazy dog", "lazy hound", 1)
    other = "Completely different words about tides, bread and the history of glass making."
    with Duplicates("exact") as exact, Duplicates("near") as nearly, Duplicates("keep") as keep:
        assert [exact.is_new([t]) for t in (text, text, near)] == [True, False, True]
        assert [nearly.is_new([t]) for t in (text, near, other)] == [True, False, True]
        assert keep.is_new([text]) and keep.is_new([text])


# Packing


@given(st.lists(st.integers(1, 64), max_size=200))
def test_every_example_is_packed_once_and_no_row_overflows(lengths: list[int]) -> None:
    rows = list(pack(lengths, 64))
    assert sorted(place for row in rows for place in row) == list(range(len(lengths)))
    assert all(sum(lengths[place] for place in row) <= 64 for row in rows)


@pytest.mark.lengthy
@given(st.lists(st.integers(1, 64), min_size=1, max_size=200))
def test_at_most_one_row_is_less_than_half_full(lengths: list[int]) -> None:
    rows = list(pack(lengths, 64))
    assert sum(sum(lengths[place] for place in row) <= 32 for row in rows) <= 1


# Masks


def test_what_is_trained_is_the_answers_with_their_ends() -> None:
    row = Example((user("a"), assistant("bb"), user("c"), assistant("dd")), ORIGIN)
    tokens = Masker(TEMPLATE, 500, cut=False).tokens(row)
    labels = tokens.columns["labels"]
    assert isinstance(labels, list)
    trained = TEMPLATE.tokenizer.decode([label for label in labels if label != IGNORED])
    assert "bb" in trained and "dd" in trained and "a" not in trained and "c" not in trained
    last = Masker(TEMPLATE, 500, cut=False).tokens(Example(row.messages, ORIGIN, last_only=True))
    assert last.trained == tokens.trained / 2


def test_a_pair_is_cut_where_its_answers_begin() -> None:
    pair = Pair((user("a"),), assistant("yes"), assistant("no"), ORIGIN)
    columns = Masker(TEMPLATE, 500, cut=False).tokens(pair).columns
    assert columns["prompt_ids"] == list(TEMPLATE.render([user("a")]))
    assert TEMPLATE.tokenizer.decode(columns["chosen_ids"]).startswith("yes")  # type: ignore[arg-type]


def test_a_long_row_is_refused_or_loses_its_oldest_turns() -> None:
    said = [m for n in range(6) for m in (user(f"question {n}"), assistant(f"answer {n}"))]
    row = Example((system("Be brief."), *said), ORIGIN)
    with pytest.raises(TooLong, match="are allowed"):
        Masker(TEMPLATE, 150, cut=False).tokens(row)
    tokens = Masker(TEMPLATE, 150, cut=True).tokens(row)
    assert tokens.length <= 150 and tokens.cut > 0
    assert tokens.row.messages[0] == system("Be brief.")
    assert tokens.row.messages[-1] == said[-1]


# Recipes


def test_a_recipe_is_written_with_every_default_and_read_again(tmp_path: Path) -> None:
    made = recipe(write_rows(tmp_path / "rows.jsonl", lessons(2)), tmp_path / "out")
    path = tmp_path / "recipe.yaml"
    path.write_text(write_recipe(made))
    assert read_recipe(path) == made
    changed = read_recipe(path, ["train.learning_rate=2e-4", "data.longest=64", "output=elsewhere"])
    assert (changed.train.learning_rate, changed.data.longest) == (2e-4, 64)
    assert changed.output == "elsewhere"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("train.learning_rat=1", "did you mean learning_rate\\?"),
        ("data.held_out=1.5", "data"),
        ("train.epochs=-1", "epochs"),
        ("quantize=int4", None),
        ("method=distill", "adapter.kind to full"),
        ("method=grpo", "no reinforce"),
        ("nothing", "sets nothing"),
    ],
)
def test_a_wrong_option_is_one_sentence(tmp_path: Path, change: str, sentence: str | None) -> None:
    made = recipe(write_rows(tmp_path / "rows.jsonl", lessons(2)), tmp_path / "out")
    path = tmp_path / "recipe.yaml"
    path.write_text(write_recipe(made))
    if sentence is None:
        assert read_recipe(path, [change]).quantize == "int4"
        return
    with pytest.raises(InputError, match=sentence):
        read_recipe(path, [change])


def test_every_shipped_recipe_is_valid() -> None:
    folder = Path(__file__).parent.parent / "finetune" / "recipes"
    for path in sorted(folder.glob("*.yaml")):
        try:
            read_recipe(path)
        except UnknownModel as error:  # pragma: no cover
            pytest.fail(f"{path}: {error}")
