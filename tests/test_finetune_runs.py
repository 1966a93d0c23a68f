"""Runs of every method on a tiny model with a real tokenizer, and what can go wrong in one."""

import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from recipes import lessons, recipe, write_rows
from tiny_model import make_tiny

from chatkit.adapters.reading import check_adapter, read_adapter
from chatkit.engine import complete
from chatkit.engines.opening import open_engine
from chatkit.engines.weights import load_weights
from chatkit.errors import (
    DiskFull,
    InputError,
    MissingExtra,
    ModelFileError,
    TrainingDiverged,
    Unsupported,
)
from chatkit.finetuning.gathering import gather
from chatkit.finetuning.lineage import adapters_that_saw
from chatkit.finetuning.merging import merge
from chatkit.finetuning.preview import preview
from chatkit.finetuning.recipe import Recipe
from chatkit.finetuning.run import run
from chatkit.finetuning.table import read_table
from chatkit.finetuning.training.arguments import Steps
from chatkit.finetuning.training.attention import attend_by_example
from chatkit.finetuning.training.losses import needed_logits, negative_log_likelihood
from chatkit.finetuning.training.rows import Joiner
from chatkit.loading.bases import find_base
from chatkit.messages import user
from chatkit.prompt import build_prompt
from chatkit.sampling import Sampling

pytestmark = [
    pytest.mark.model,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning"),
]


@pytest.fixture(scope="module")
def tiny(default_model_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama of four layers with random weights and SmolLM2's tokenizer."""
    # Threads that wait for each other cost so small a model more than they give.
    torch.set_num_threads(1)
    return make_tiny(default_model_home, tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "rows.jsonl", lessons(20))


def figures(output: Path, name: str) -> dict[int, float]:
    lines = map(json.loads, (output / "metrics.jsonl").read_text().splitlines())
    return {line["step"]: line[name] for line in lines if name in line}


def silent(line: str) -> None:
    """Say nothing."""


# What a run leaves


def test_a_run_leaves_an_adapter_that_opens_and_says_where_it_comes_from(
    tiny: Path, rows: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    result = run(recipe(rows, output, base=str(tiny)), say=silent)
    assert result.stopped_by is None and result.metrics["eval_loss"] > 0
    names = {path.name for path in output.iterdir()}
    assert {
        "adapter_model.safetensors",
        "tokenizer.json",
        "recipe.yaml",
        "lineage.json",
        "metrics.jsonl",
        "answers.jsonl",
        "loss.png",
        "README.md",
    } <= names
    assert "chat_template" in json.loads((output / "tokenizer_config.json").read_text())
    lineage = json.loads((output / "lineage.json").read_text())
    engine = open_engine(str(output))
    assert lineage["template_identity"] == str(engine.template.identity)
    assert lineage["base"]["name"] == str(tiny) and lineage["data"]["train"] > 0
    assert read_adapter(output).base == str(tiny)


@pytest.mark.slow
@pytest.mark.parametrize(("every", "measured"), [(2, [0, 2, 4]), (3, [0, 3, 4])])
def test_what_is_held_out_is_measured_at_the_beginning_at_the_end_and_never_twice(
    tiny: Path, rows: Path, tmp_path: Path, every: int, measured: list[int]
) -> None:
    made = recipe(rows, tmp_path / "out", base=str(tiny), train__steps=4, measure__every=every)
    run(made, say=silent)
    lines = map(json.loads, (tmp_path / "out" / "metrics.jsonl").read_text().splitlines())
    assert [line["step"] for line in lines if "eval_loss" in line] == measured


def test_an_adapter_is_refused_under_another_template_or_base(
    tiny: Path, rows: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    run(recipe(rows, output, base=str(tiny), train__steps=1), say=silent)
    adapter = read_adapter(output)
    assert adapter.template_identity and adapter.checksum
    with pytest.raises(ModelFileError, match=f"{adapter.template_identity}.*0123"):
        check_adapter(adapter, "other", "0123")
    with pytest.raises(ModelFileError, match=f"{adapter.checksum}.*4567"):
        check_adapter(adapter, "other", adapter.template_identity, "4567")
    other = shutil.copytree(tiny, tmp_path / "other")
    config = json.loads((output / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = str(other)
    (output / "adapter_config.json").write_text(json.dumps(config))
    template = other / "chat_template.jinja"
    source = json.loads((other / "tokenizer_config.json").read_text()).get("chat_template", "")
    template.write_text((template.read_text() if template.exists() else source) + " ")
    with pytest.raises(ModelFileError, match="was trained with the template"):
        open_engine(str(output))


@pytest.mark.anyio
async def test_a_merged_adapter_is_a_checkpoint_that_says_the_same(
    tiny: Path, rows: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    run(recipe(rows, output, base=str(tiny), train__steps=4), say=silent)
    adapted, merged = open_engine(str(output)), open_engine(str(merge(output, tmp_path / "m")))
    prompt = build_prompt(adapted.template, [user("Say 3 and bees.")])
    drawn = Sampling(temperature=0, max_tokens=12)
    assert (await complete(adapted, prompt, drawn))[0] == (await complete(merged, prompt, drawn))[0]
    with pytest.raises(InputError, match="not empty"):
        merge(output, tmp_path / "m")
    await adapted.close()
    await merged.close()


# The same losses


@pytest.mark.parametrize("by_example", [False, True], ids=["masked", "by example"])
def test_the_loss_is_that_of_plain_transformers_and_packing_changes_nothing(
    tiny: Path, rows: Path, tmp_path: Path, by_example: bool
) -> None:
    made = recipe(rows, tmp_path / "out", base=str(tiny))
    files, _ = gather(made, find_base(str(tiny)).template, tmp_path / "data")
    table = read_table(files.train)
    plain: Any = load_weights(tiny, for_training=True)
    model: Any = load_weights(tiny, for_training=True)
    assert not by_example or attend_by_example(model)
    packed = Joiner(table, lengths=by_example)([{"examples": [0, 1, 2]}])
    together = negative_log_likelihood(needed_logits(model, packed), spend=by_example)
    together.backward()
    alone = torch.zeros(())
    for place in range(3):
        ids = torch.tensor([table[place]["input_ids"]])
        labels = torch.tensor([table[place]["labels"]])
        trained = int((labels != -100).sum())
        alone = alone + plain(input_ids=ids, labels=labels).loss * trained
    alone.backward()
    assert together.item() == pytest.approx(alone.item(), rel=1e-5)
    for ours, theirs in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-3, atol=1e-5)


def test_a_model_whose_layers_see_a_window_keeps_its_mask(tiny: Path) -> None:
    model: Any = load_weights(tiny)
    model.config.sliding_window = 64
    assert not attend_by_example(model)


def test_a_stopped_run_goes_on_to_the_same_losses(tiny: Path, rows: Path, tmp_path: Path) -> None:
    changes: dict[str, Any] = {
        "base": str(tiny),
        "train__steps": 8,
        "train__save_steps": 2,
        "adapter__dropout": 0.1,
    }
    whole = tmp_path / "whole"
    run(recipe(rows, whole, **changes), say=silent)
    halves = recipe(rows, tmp_path / "halves", **changes)

    def interrupt(line: str) -> None:
        if line.startswith("step 4/"):
            os.kill(os.getpid(), signal.SIGTERM)

    stopped = run(halves, say=interrupt)
    assert stopped.stopped_by == "SIGTERM"
    before = figures(halves.folder, "loss")
    assert 4 in before and 8 not in before
    run(halves, resume=True, say=silent)
    wanted, found = figures(whole, "loss"), figures(halves.folder, "loss")
    assert set(found) == set(wanted) == set(range(1, 9))
    for step, loss in wanted.items():
        assert found[step] == pytest.approx(loss, abs=1e-4)


@pytest.mark.slow
def test_the_same_seed_gives_the_same_losses(tiny: Path, rows: Path, tmp_path: Path) -> None:
    losses = []
    for name in ("one", "two"):
        run(recipe(rows, tmp_path / name, base=str(tiny), train__steps=3), say=silent)
        losses.append(figures(tmp_path / name, "loss"))
    assert losses[0] == losses[1]


# Methods


PAIRS = [
    {"prompt": f"Say {n}.", "chosen": f"Here is {n}.", "rejected": f"No, not {n}, never."}
    for n in range(16)
]
THUMBS = [
    {"prompt": f"Say {n}.", "completion": f"Here is {n}.", "label": n % 2 == 0} for n in range(16)
]
QUESTIONS = [{"prompt": f"Say {n}.", "reference": str(n)} for n in range(16)]
SHORT = {"kind": "length", "most": 4}


@pytest.mark.parametrize(
    ("method", "data", "changes", "figure"),
    [
        ("dpo", PAIRS, {}, "preference_accuracy_after"),
        ("kto", THUMBS, {"train__micro_batch": 4}, "liked_change"),
        ("reward", PAIRS, {}, "eval_accuracy"),
        ("sft", lessons(16), {"adapter__kind": "dora", "train__neftune": 5}, "eval_loss"),
        ("sft", lessons(16), {"adapter__kind": "full", "train__learning_rate": 1e-4}, "eval_loss"),
        *(
            pytest.param(*others, marks=pytest.mark.slow)
            for others in [
                ("dpo", PAIRS, {"preference__loss": "ipo"}, "kl_to_base"),
                (
                    "dpo",
                    PAIRS,
                    {"preference__loss": "robust", "preference__wrong_labels": 0.1},
                    "kl_to_base",
                ),
                ("orpo", PAIRS, {}, "preference_accuracy_after"),
                ("sft", lessons(16), {"adapter__kind": "rslora"}, "eval_loss"),
                (
                    "sft",
                    lessons(16),
                    {"train__packing": False, "train__checkpointing": True},
                    "eval_loss",
                ),
            ]
        ),
    ],
)
def test_each_method_trains_and_tells_its_figure(
    tiny: Path,
    tmp_path: Path,
    method: str,
    data: list[Any],
    changes: dict[str, Any],
    figure: str,
) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", data)
    given = {"base": str(tiny), "method": method, "train__batch": 4, **changes}
    made = recipe(rows, tmp_path / "out", **given)
    assert figure in run(made, say=silent).metrics


@pytest.mark.parametrize("algorithm", ["grpo", pytest.param("rloo", marks=pytest.mark.slow)])
def test_reinforcement_asks_the_scorer_about_answers(
    tiny: Path, tmp_path: Path, algorithm: str
) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", QUESTIONS)
    made = recipe(
        rows,
        tmp_path / "out",
        base=str(tiny),
        method="grpo",
        train__batch=4,
        train__micro_batch=4,
        reinforce__algorithm=algorithm,
        reinforce__reward=SHORT,
        reinforce__answers=2,
        reinforce__answer_tokens=6,
    )
    rewards = figures(run(made, say=silent).folder, "reward")
    assert rewards and all(0 <= reward <= 1 for reward in rewards.values())


@pytest.mark.slow
def test_a_policy_learns_from_a_reward_model(tiny: Path, tmp_path: Path) -> None:
    pairs = write_rows(tmp_path / "pairs.jsonl", PAIRS)
    judge = recipe(pairs, tmp_path / "judge", base=str(tiny), method="reward")
    run(judge, say=silent)
    rows = write_rows(tmp_path / "rows.jsonl", QUESTIONS)
    changes: dict[str, Any] = {
        "base": str(tiny),
        "method": "grpo",
        "train__batch": 4,
        "train__micro_batch": 4,
        "reinforce__answers": 2,
        "reinforce__answer_tokens": 6,
    }
    made = recipe(
        rows, tmp_path / "out", reinforce__reward_model=str(tmp_path / "judge"), **changes
    )
    assert figures(run(made, say=silent).folder, "reward")
    with pytest.raises(ModelFileError, match="is a reward model"):
        open_engine(str(tmp_path / "judge"))
    wrong = recipe(
        rows, tmp_path / "wrong", reinforce__reward_model=str(tmp_path / "out"), **changes
    )
    with pytest.raises(InputError, match="the result of grpo"):
        run(wrong, say=silent)


@pytest.mark.slow
@pytest.mark.anyio
@pytest.mark.parametrize("kind", ["logits", "sequence"])
async def test_a_student_of_half_the_layers_opens(
    tiny: Path, rows: Path, tmp_path: Path, kind: str
) -> None:
    made = recipe(
        rows,
        tmp_path / "out",
        base=str(tiny),
        method="distill",
        adapter__kind="full",
        distill__keep_layers=2,
        distill__kind=kind,
    )
    run(made, say=silent)
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["num_hidden_layers"] == 2
    engine = open_engine(str(tmp_path / "out"))
    prompt = build_prompt(engine.template, [user("hi")])
    await complete(engine, prompt, Sampling(temperature=0, max_tokens=3))
    await engine.close()


@pytest.mark.slow
@pytest.mark.parametrize("quantize", ["int4", "int8"])
def test_a_quantised_base_is_trained_on_the_cpu(
    tiny: Path, rows: Path, tmp_path: Path, quantize: str
) -> None:
    made = recipe(rows, tmp_path / "out", base=str(tiny), quantize=quantize, train__steps=3)
    losses = figures(run(made, say=silent).folder, "loss")
    assert len(losses) == 3


# What can go wrong


@pytest.mark.slow
def test_a_run_whose_held_out_loss_does_not_fall_ends_early(
    tiny: Path, rows: Path, tmp_path: Path
) -> None:
    made = recipe(
        rows,
        tmp_path / "out",
        base=str(tiny),
        train__steps=12,
        train__learning_rate=1e-12,
        measure__every=1,
        measure__patience=2,
    )
    assert max(figures(run(made, say=silent).folder, "loss")) < 12


def test_a_folder_with_something_in_it_is_refused(tiny: Path, rows: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    made = recipe(rows, tmp_path / "out", base=str(tiny))
    with pytest.raises(InputError, match="is not empty"):
        run(made, say=silent)
    with pytest.raises(InputError, match="no run in"):
        run(made, resume=True, say=silent)


def test_a_tracker_that_is_not_installed_is_named(tiny: Path, rows: Path, tmp_path: Path) -> None:
    made = recipe(rows, tmp_path / "out", base=str(tiny), train__report_to=["mlflow"])
    with pytest.raises(MissingExtra, match="pip install mlflow"):
        run(made, say=silent)


def test_a_precision_that_this_machine_cannot_train_is_refused(
    tiny: Path, rows: Path, tmp_path: Path
) -> None:
    if torch.cuda.is_available():
        pytest.skip("CUDA computes in fp16")
    made = recipe(rows, tmp_path / "out", base=str(tiny), train__precision="fp16")
    with pytest.raises(Unsupported, match=r"set train.precision to fp32 or bf16"):
        run(made, say=silent)


def test_a_changed_recipe_does_not_go_on(tiny: Path, rows: Path, tmp_path: Path) -> None:
    run(recipe(rows, tmp_path / "out", base=str(tiny), train__steps=1), say=silent)
    other = recipe(
        rows, tmp_path / "out", base=str(tiny), train__steps=1, train__learning_rate=5e-4
    )
    with pytest.raises(InputError, match=r"different is train.learning_rate"):
        run(other, resume=True, say=silent)


def test_changed_data_does_not_go_on(tiny: Path, rows: Path, tmp_path: Path) -> None:
    made = recipe(rows, tmp_path / "out", base=str(tiny), train__steps=1)
    run(made, say=silent)
    write_rows(rows, lessons(24))
    with pytest.raises(InputError, match="The data is not what"):
        run(made, resume=True, say=silent)


@given(st.integers(2, 64), st.integers(1, 16))
def test_a_step_keeps_its_rows_when_fewer_are_computed_at_once(micro: int, often: int) -> None:
    halved = Steps(micro, often, False).halved()
    assert halved.micro_batch <= micro // 2
    assert halved.micro_batch * halved.accumulation == micro * often


def test_a_loss_that_is_no_number_stops_with_its_rows(
    tiny: Path, rows: Path, tmp_path: Path
) -> None:
    made = recipe(
        rows, tmp_path / "out", base=str(tiny), train__steps=20, train__learning_rate=1e30
    )
    with pytest.raises(TrainingDiverged, match="in step"):
        run(made, say=silent)
    (saved,) = (tmp_path / "out").glob("diverged-step-*.json")
    assert json.loads(saved.read_text())["batch"]["input_ids"]


def test_memory_that_runs_out_halves_what_is_computed_at_once(
    tiny: Path, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from chatkit.finetuning.training import sft

    plain = sft.needed_logits

    def limited(model: Any, inputs: Any) -> Any:
        if inputs["input_ids"].shape[1] > 140:
            raise torch.OutOfMemoryError("out of memory")
        return plain(model, inputs)

    monkeypatch.setattr(sft, "needed_logits", limited)
    told: list[str] = []
    made = recipe(
        rows,
        tmp_path / "out",
        base=str(tiny),
        train__steps=2,
        train__batch=4,
        train__micro_batch=4,
        data__held_out=[{"path": str(write_rows(tmp_path / "held.jsonl", lessons(21)[20:]))}],
    )
    result = run(made, say=told.append)
    assert [line for line in told if "Memory ran out" in line][-1].startswith(
        "Memory ran out; going on with 1 rows at once, 4 times per step"
    )
    assert result.metrics["eval_loss"] > 0


def test_a_full_disk_leaves_the_last_checkpoint(
    tiny: Path, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = recipe(rows, tmp_path / "out", base=str(tiny), train__steps=4, train__save_steps=1)
    save = torch.save

    def full(value: Any, path: Any, *more: Any, **named: Any) -> None:
        if "checkpoint-3" in str(path):
            raise OSError(28, "No space left on device")
        save(value, path, *more, **named)

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", full)
        with pytest.raises(DiskFull, match="checkpoint of step 3"):
            run(made, say=silent)
    kept = sorted(path.name for path in (tmp_path / "out" / "checkpoints").glob("checkpoint-*"))
    assert kept == ["checkpoint-1", "checkpoint-2"]
    run(made, resume=True, say=silent)
    assert set(figures(tmp_path / "out", "loss")) == {1, 2, 3, 4}


def test_one_can_ask_which_results_saw_whom(tiny: Path, tmp_path: Path) -> None:
    rows = [{**row, "user": f"u{n}", "conversation": f"c{n}"} for n, row in enumerate(lessons(12))]
    data = write_rows(tmp_path / "rows.jsonl", rows)
    run(recipe(data, tmp_path / "all" / "out", base=str(tiny), train__steps=1), say=silent)
    people = (tmp_path / "all" / "out" / "people.jsonl").read_text().splitlines()
    seen = json.loads(people[0])
    assert adapters_that_saw(tmp_path / "all", user=seen["user"]) == [tmp_path / "all" / "out"]
    assert adapters_that_saw(tmp_path / "all", conversation="nobody") == []
    with pytest.raises(InputError, match="a user or for a conversation"):
        adapters_that_saw(tmp_path / "all")


# The proof


def test_the_preview_proves_every_row_or_says_what_is_wrong(
    tiny: Path, rows: Path, tmp_path: Path
) -> None:
    made = recipe(rows, tmp_path / "out", base=str(tiny))
    shown = preview(made, 2)
    assert shown.problems == [] and not shown.refused_stops and len(shown.examples) == 2
    pieces = shown.examples[0].pieces
    trained = "".join(piece.text for piece in pieces if piece.trained)
    assert trained.startswith("Answer:") and trained.endswith("<|im_end|>")
    assert shown.trained > 0 and shown.ignored > shown.trained / 10


def test_the_preview_sees_what_is_called_trained(tiny: Path, tmp_path: Path) -> None:
    from test_template import CALLING

    # The tiny model, with a template that writes calls.
    calling = shutil.copytree(tiny, tmp_path / "calling")
    (calling / "chat_template.jinja").write_text(CALLING)
    call = {"function": {"name": "weather", "arguments": {"city": "Lyon"}}}
    turns = [
        {"role": "user", "content": "Is it warm?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": "17 degrees"},
        {"role": "assistant", "content": "Yes."},
    ]
    tools = [{"type": "function", "function": {"name": "weather", "parameters": {}}}]
    path = write_rows(tmp_path / "calls.jsonl", [{"messages": turns, "tools": tools}])
    shown = preview(recipe(path, tmp_path / "out", base=str(calling)))
    assert shown.problems == []
    trained = "".join(piece.text for piece in shown.examples[0].pieces if piece.trained)
    assert '"city": "Lyon"' in trained and trained.endswith("Yes.<|im_end|>")


def test_the_preview_finds_a_mask_that_trains_too_little(
    tiny: Path, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from chatkit.template import ChatTemplate, Masked

    whole = ChatTemplate.mask

    def late(self: ChatTemplate, messages: Any, tools: Any) -> Masked:
        masked = whole(self, messages, tools)
        first = masked.trained.index(True)
        return Masked(masked.ids, (*masked.trained[:first], False, *masked.trained[first + 1 :]))

    monkeypatch.setattr(ChatTemplate, "mask", late)
    assert "is trained where" in preview(recipe(rows, tmp_path / "out", base=str(tiny))).problems[0]


def as_saved(made: Recipe, path: Path) -> Path:
    from chatkit.finetuning.recipe import write_recipe

    path.write_text(write_recipe(made))
    return path


def test_the_command_previews_trains_and_answers_in_one_sentence(
    tiny: Path, rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from typer.testing import CliRunner

    from finetune.__main__ import app

    path = as_saved(recipe(rows, tmp_path / "out", base=str(tiny)), tmp_path / "recipe.yaml")
    shown = CliRunner().invoke(app, ["preview", str(path), "--n", "1"])
    assert shown.exit_code == 0 and "⟦Answer:" in shown.output.replace("\n", "")
    wrong = CliRunner().invoke(app, ["dpo", str(path)])
    assert isinstance(wrong.exception, InputError) and "finetune sft" in str(wrong.exception)
    write_rows(rows, [*lessons(20), {"messages": []}])
    refused = CliRunner().invoke(app, ["preview", str(path)])
    assert refused.exit_code == 1 and "line 21" in refused.output
