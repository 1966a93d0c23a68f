"""lm-eval's tasks with our engine behind them: the numbers are those of its own backend."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
from lm_eval import simple_evaluate
from lm_eval.tasks import TaskManager
from wire_server import wire_server

from chatkit.background import wait_for
from chatkit.engines.opening import open_engine
from chatkit.engines.scripted import Script, ScriptedEngine
from chatkit.engines.transformers import TransformersEngine
from chatkit.errors import InputError, Unsupported
from chatkit.evaluation.harness import run_tasks
from chatkit.loading.bases import find_base

pytestmark = [
    pytest.mark.model,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning"),
]

NAMES = ["Ada", "Ben", "Cleo", "Dan", "Eva", "Finn"]
PLACES = ["in the old garden", "by the long river", "under a stone bridge", "on the high hill"]


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a task of choices, one of whole texts and one of writing, with local data."""
    folder, draw = tmp_path_factory.mktemp("tasks"), random.Random(0)
    rows = []
    for n in range(6):
        name, right = NAMES[n], draw.randrange(4)
        said = f"{name} is {PLACES[right]}, and it is day {n}."
        rows.append({"q": f"{said} Where is {name}?", "choices": PLACES, "gold": right})
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    common = (
        "dataset_path: json\n"
        f"dataset_kwargs: {{data_files: {{test: {folder / 'rows.jsonl'}}}}}\n"
        "test_split: test\n"
    )
    (folder / "places.yaml").write_text(
        f"task: places\n{common}output_type: multiple_choice\n"
        'doc_to_text: "Question: {{q}}\\nAnswer:"\n'
        "doc_to_choice: choices\ndoc_to_target: gold\nnum_fewshot: 2\n"
        "fewshot_split: test\nfewshot_config: {sampler: first_n}\n"
        "metric_list: [{metric: acc}, {metric: acc_norm}]\n"
    )
    (folder / "texts.yaml").write_text(
        f"task: texts\n{common}output_type: loglikelihood_rolling\n"
        'doc_to_text: ""\ndoc_to_target: "{{q}}"\nmetric_list: [{metric: word_perplexity}]\n'
    )
    (folder / "written.yaml").write_text(
        f"task: written\n{common}output_type: generate_until\n"
        'doc_to_text: "{{q}}"\ndoc_to_target: "{{choices[gold]}}"\n'
        "generation_kwargs: {until: ['.'], max_gen_toks: 8}\n"
        "metric_list: [{metric: exact_match}]\n"
    )
    return folder


def theirs(tasks: Path, name: str) -> dict[str, Any]:
    base = find_base("smollm2-135m")
    found = simple_evaluate(
        model="hf",
        model_args={
            "pretrained": str(base.checkpoint),
            "tokenizer": str(base.tokenizer),
            "dtype": "float32",
        },
        tasks=[name],
        batch_size=4,
        device="cpu",
        task_manager=TaskManager(include_path=str(tasks), include_defaults=False),
        bootstrap_iters=0,
    )
    assert found is not None
    return dict(found)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["places", "texts"])
def test_the_numbers_are_those_of_its_own_backend(
    transformers: TransformersEngine, model_home: Path, tasks: Path, name: str
) -> None:
    ours, wanted = run_tasks(transformers, [name], include=tasks), theirs(tasks, name)
    figures = {k: v for k, v in wanted["results"][name].items() if isinstance(v, float)}
    for key, value in figures.items():
        if "stderr" not in key:
            assert ours["results"][name][key] == pytest.approx(value, rel=1e-4), key
    if name == "places":
        for mine, other in zip(ours["samples"][name], wanted["samples"][name], strict=True):
            likelihoods = [float(one[0][0]) for one in mine["resps"]]
            assert likelihoods == pytest.approx([one[0][0] for one in other["resps"]], abs=1e-3)


@pytest.mark.slow
def test_a_server_that_tells_likelihoods_gives_the_same_numbers(
    transformers: TransformersEngine, model_home: Path, tasks: Path
) -> None:
    with wire_server(transformers) as server:
        engine = open_engine(f"tgi:{server.url}#smollm2-135m@transformers")
        there = run_tasks(engine, ["places"], include=tasks, limit=2)
        wait_for(engine.close())
    here = run_tasks(transformers, ["places"], include=tasks, limit=2)
    for mine, other in zip(there["samples"]["places"], here["samples"]["places"], strict=True):
        told, wanted = ([one[0] for one in each["resps"]] for each in (mine, other))
        assert [float(one[0]) for one in told] == pytest.approx(
            [float(one[0]) for one in wanted], abs=1e-2
        )
        assert [one[1] for one in told] == [one[1] for one in wanted]


def test_what_is_written_ends_at_the_stop(tasks: Path) -> None:
    engine = ScriptedEngine(Script(answer=lambda asked: "in the garden. And more"))
    found = run_tasks(engine, ["written"], include=tasks, limit=2)
    said = [sample["resps"][0][0] for sample in found["samples"]["written"]]
    assert [text.strip() for text in said] == ["in the g", "in the g"]


def test_an_engine_without_likelihoods_is_refused_by_name(tasks: Path) -> None:
    with pytest.raises(Unsupported, match=r"scripted: .*@transformers"):
        run_tasks(ScriptedEngine(), ["places"], include=tasks)


@pytest.mark.slow
def test_an_unknown_task_is_told_the_nearest(tasks: Path) -> None:
    with pytest.raises(InputError, match="did you mean places"):
        run_tasks(ScriptedEngine(), ["plces"], include=tasks)
