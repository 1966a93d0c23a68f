"""The notebooks: stored clean, run from top to bottom, and the pieces that they show."""

import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import nbformat
import pytest
from matplotlib.patches import Rectangle
from nbclient import NotebookClient
from nbformat import NotebookNode
from pandas import read_parquet
from rich.console import Console
from rich.text import Text

from chatkit.catalogue import catalogue, find
from chatkit.errors import UnknownModel
from chatkit.evaluation.record import read_run
from chatkit.hardware import named_hardware
from chatkit.memory import verdict
from chatkit.sampling import Sampling
from chatkit.session import Model, load
from chatkit.ui.notebook import (
    CatalogueBrowser,
    Choice,
    PullProgress,
    Table,
    answers,
    branches,
    choices,
    licences,
    speed_plot,
    speeds,
)

pytestmark = pytest.mark.lengthy

FOLDER = Path(__file__).parent.parent / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


def read(path: Path) -> NotebookNode:
    notebook: NotebookNode = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    return notebook


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def run(name: str, home: Path, parameters: str) -> NotebookNode:
    """Run a notebook where it lies, with other parameters."""
    notebook = read(FOLDER / name)
    (cell,) = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", ())]
    cell.source = parameters
    client = NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(FOLDER)}}
    )
    # Offline, the hub's client would not even talk to a server on this machine.
    environment = {name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"}
    client.execute(env={**environment, "CHATKIT_HOME": str(home)})
    return notebook


def outputs(notebook: NotebookNode, source: str) -> list[NotebookNode]:
    """The outputs of the cell that contains a piece of source."""
    (cell,) = [cell for cell in code_cells(notebook) if source in cell.source]
    return list(cell.outputs)


def shown(notebook: NotebookNode, source: str, kind: str) -> list[str]:
    """What a cell shows as one MIME type."""
    data = [output.get("data", {}) for output in outputs(notebook, source)]
    return [one[kind] for one in data if kind in one]


def printed(notebook: NotebookNode, source: str) -> str:
    return "".join(output.get("text", "") for output in outputs(notebook, source))


@pytest.fixture(scope="module")
def chat_notebook(default_model_home: Path) -> NotebookNode:
    return run("01_chat.ipynb", default_model_home, "LONGEST_ANSWER = 12")


@pytest.fixture(scope="module")
def choice_notebook(default_model_home: Path) -> NotebookNode:
    parameters = "LONGEST_ANSWER = 6\nREPEATS = 2"
    return run("02_choose_a_model.ipynb", default_model_home, parameters)


@pytest.fixture(scope="module")
def serve_notebook(default_model_home: Path) -> NotebookNode:
    parameters = 'MODEL = "smollm2-135m"\nLONGEST_ANSWER = 12\nAT_ONCE = (1, 3)'
    return run("05_serve.ipynb", default_model_home, parameters)


@pytest.mark.slow
@pytest.mark.model
def test_the_tuned_model_answers_in_json_and_is_verified(
    default_model_home: Path, tmp_path: Path
) -> None:
    parameters = (
        "from pathlib import Path\n"
        f"STEPS, QUESTIONS, FOLDER = 4, 1, Path({str(tmp_path / 'tuned')!r})\n"
        "FOLDER.mkdir()"
    )
    notebook = run("03_finetune.ipynb", default_model_home, parameters)
    html = "".join(
        output.data.get("text/html", "")
        for cell in code_cells(notebook)
        for output in cell.outputs
        if "data" in output
    )
    assert "background: #1a7f37" in html and "&quot;kind&quot;" in html and "FAILS" not in html


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_a_notebook_is_stored_without_outputs(path: Path) -> None:
    notebook = read(path)
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "python3"
    assert "widgets" not in notebook.metadata
    for cell in code_cells(notebook):
        assert cell.outputs == []
        assert cell.execution_count is None


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_the_first_cell_refuses_another_package_of_the_same_name(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = ModuleType("chatkit")
    other.__file__ = "/somewhere/chatkit/__init__.py"
    monkeypatch.setitem(sys.modules, "chatkit", other)
    with pytest.raises(AssertionError, match=r"^/somewhere/\S+ is another package .*\.$"):
        exec(code_cells(read(path))[0].source, {})


@pytest.mark.slow
@pytest.mark.model
def test_the_server_answers_four_clients(serve_notebook: NotebookNode) -> None:
    assert "12 tokens" in printed(serve_notebook, "client.generate(")
    assert len(printed(serve_notebook, "client.generate_stream(").splitlines()) > 2
    assert printed(serve_notebook, "hub.chat_completion(").strip()
    assert '"city"' in printed(serve_notebook, "openai.chat.completions.create(")
    assert shown(serve_notebook, "there.send(question)", "text/plain")[-1] == "True"


@pytest.mark.slow
@pytest.mark.model
def test_the_load_curve_is_shown_and_the_container_comes_last(serve_notebook: NotebookNode) -> None:
    assert printed(serve_notebook, "for many in AT_ONCE").count("at once:") == 2
    assert shown(serve_notebook, "plt.subplots", "image/png")
    assert printed(serve_notebook, "tgi-command").startswith("docker run")
    assert shown(serve_notebook, "server.terminate()", "text/plain") == ["0"]


@pytest.mark.model
def test_the_first_chat_answers(chat_notebook: NotebookNode) -> None:
    for question in ("first = chat.send(", "Why does the moon", "chat.retry(", "chat.edit("):
        (answer,) = shown(chat_notebook, question, "text/markdown")
        assert answer.strip()


@pytest.mark.model
def test_the_first_chat_shows_each_branch(chat_notebook: NotebookNode) -> None:
    (tree,) = shown(chat_notebook, "import branches", "text/html")
    assert tree.count("user: ") == 3
    assert tree.count("assistant: ") == 4


@pytest.mark.model
def test_the_first_chat_repeats_itself_at_temperature_0_and_with_a_seed(
    chat_notebook: NotebookNode,
) -> None:
    assert shown(chat_notebook, "once.text == again.text", "text/plain")[-1] == "True"
    said = printed(chat_notebook, "for seed in")
    assert "seed 3 twice gives the same text: True" in said
    assert "seed 4 gives the same text as seed 3: False" in said


@pytest.mark.model
def test_the_first_chat_counts_tokens(chat_notebook: NotebookNode) -> None:
    assert "  5 tokens: What is a tide?" in printed(chat_notebook, "count_tokens")


@pytest.mark.model
def test_the_table_has_a_row_for_every_model(choice_notebook: NotebookNode) -> None:
    (table,) = shown(choice_notebook, "CatalogueBrowser(", "text/html")
    assert table.count("<tr>") == 1 + len(catalogue())
    assert all(f">{name}</td>" in table for name in catalogue())


@pytest.mark.model
def test_two_engines_give_the_same_first_answers(choice_notebook: NotebookNode) -> None:
    (table,) = shown(choice_notebook, "answers(models", "text/html")
    rows = [row.split("</td>")[:3] for row in table.split("<tr>")[2:]]
    assert len(rows) == 3
    for _, embedded, transformers in rows:
        assert embedded == transformers


@pytest.mark.model
def test_the_speeds_are_a_picture(choice_notebook: NotebookNode) -> None:
    assert len(shown(choice_notebook, "speed_plot(", "image/png")) == 1


SMALL_CARD = named_hardware("4GB")


def choice(name: str, pulled: bool = False) -> Choice:
    return Choice(find(name), verdict(find(name), SMALL_CARD), pulled)


def names(browser: CatalogueBrowser) -> list[Any]:
    return [row[0] for row in browser.table.rows]


@pytest.fixture
def browser() -> CatalogueBrowser:
    return CatalogueBrowser(
        [
            choice("llama-3.3-70b-instruct"),
            choice("smollm2-135m", pulled=True),
            choice("gemma-3-1b-it"),
            choice("qwen2.5-3b-instruct"),
        ]
    )


def test_the_browser_shows_everything_in_the_catalogue_order_at_first(
    browser: CatalogueBrowser,
) -> None:
    assert names(browser) == [
        "llama-3.3-70b-instruct",
        "smollm2-135m",
        "gemma-3-1b-it",
        "qwen2.5-3b-instruct",
    ]


@pytest.mark.parametrize(
    ("order", "first"),
    [
        ("name", "gemma-3-1b-it"),
        ("weights", "smollm2-135m"),
        ("memory", "smollm2-135m"),
        ("context, longest first", "llama-3.3-70b-instruct"),
        ("licence", "smollm2-135m"),
    ],
)
def test_the_browser_sorts(browser: CatalogueBrowser, order: str, first: str) -> None:
    browser.order.value = order
    assert names(browser)[0] == first


def test_the_browser_filters_by_licence(browser: CatalogueBrowser) -> None:
    browser.commercial.value = "no"
    assert names(browser) == ["qwen2.5-3b-instruct"]


def test_the_browser_filters_by_verdict(browser: CatalogueBrowser) -> None:
    browser.verdict.value = "does not fit"
    assert names(browser) == ["llama-3.3-70b-instruct"]
    browser.commercial.value = "yes"
    assert names(browser) == []


def test_every_model_of_the_catalogue_is_a_choice() -> None:
    assert [one.entry.name for one in choices(SMALL_CARD)] == list(catalogue())


def test_the_browser_says_what_is_pulled(browser: CatalogueBrowser) -> None:
    assert [row[-1] for row in browser.table.rows] == ["", "pulled", "", ""]


def test_licences_stand_side_by_side() -> None:
    table = licences("smollm2-135m", "qwen2.5-3b-instruct")
    assert table.rows[1][1:] == ("Qwen Research License", "no", "research and evaluation only")


def test_licences_of_an_unknown_model_are_refused() -> None:
    with pytest.raises(UnknownModel):
        licences("smollm2-135")


def test_a_table_shows_markup_as_text() -> None:
    assert "<td" in (html := Table(("a",), [("<b>bold</b>",)])._repr_html_())
    assert "<b>" not in html
    assert "&lt;b&gt;bold" in html


def test_a_table_is_readable_as_plain_text() -> None:
    assert repr(Table(("name", "count"), [("one", 1_000)])) == "name  count\none   1,000"


@pytest.fixture
def model() -> Model:
    return load("scripted:")


def drawn(tree: object) -> list[str]:
    console = Console(width=120)
    with console.capture() as capture:
        console.print(tree)
    return capture.get().splitlines()


def test_branches_show_every_message_with_its_id(model: Model) -> None:
    chat = model.chat()
    reply = chat.send("one")
    chat.edit("two")
    lines = drawn(branches(chat))
    assert len(lines) == 5
    assert lines[0] == "the beginning"
    assert lines[2].endswith(f"{reply.node}  assistant: You said: one")


def test_branches_are_bold_where_the_model_looks_and_dim_elsewhere(model: Model) -> None:
    chat = model.chat()
    chat.send("one")
    chat.edit("two")
    lines = [child.label for child in branches(chat).children]
    assert all(isinstance(line, Text) and not line.style for line in lines)
    styles = [[span.style for span in line.spans] for line in lines if isinstance(line, Text)]
    assert styles == [["dim", "dim"], ["dim", "bold"]]


def test_branches_begin_with_the_system_prompt_and_take_markup_as_text(model: Model) -> None:
    chat = model.chat(system="Speak [bold]softly.")
    chat.send("[red]one")
    lines = drawn(branches(chat))
    assert lines[0] == "system: Speak [bold]softly."
    assert lines[1].endswith("user: [red]one")


def test_branches_keep_a_long_message_on_one_line(model: Model) -> None:
    chat = model.chat()
    chat.send("many words\n" * 50)
    assert len(drawn(branches(chat))) == 3


def test_every_model_answers_every_question_in_a_conversation_of_its_own(model: Model) -> None:
    table = answers([model, load("scripted:b")], ["one", "two"], Sampling())
    assert table.columns == ("question", "scripted:", "scripted:b")
    assert table.rows == [
        ("one", "You said: one", "You said: one"),
        ("two", "You said: two", "You said: two"),
    ]


def test_a_speed_is_measured_for_each_repeat(model: Model) -> None:
    measured = speeds(model, "hello", tokens=5, repeats=3)
    assert len(measured) == 3
    assert all(speed > 0 for speed in measured)


def test_the_plot_has_a_bar_for_each_median() -> None:
    figure = speed_plot({"slow": (9, 10, 11), "fast": (90, 100, 300)})
    (axes,) = figure.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["slow", "fast"]
    assert [bar.get_width() for bar in axes.patches if isinstance(bar, Rectangle)] == [10, 100]
    assert "tokens per second" in axes.get_xlabel()


def test_a_pull_tells_its_progress(capsys: pytest.CaptureFixture[str]) -> None:
    progress = PullProgress()
    progress.say("Fetching.")
    progress.advance("model.gguf", 0, 10)
    progress.advance("model.gguf", 10, 10)
    assert capsys.readouterr().out.startswith("Fetching.\n")


# 04_compare_models


@pytest.mark.slow
def test_models_are_compared_side_by_side(default_model_home: Path) -> None:
    parameters = (
        'MODELS = ["smollm2-135m", "smollm2-135m@transformers"]\n'
        'PROMPTS = ["Name a fruit.", "Name a colour.", "Name a river."]\n'
        'LONGEST_ANSWER = 12\nPRICE_PER_HOUR = 0.05\nRUNS = "no runs"'
    )
    notebook = run("04_compare_models.ipynb", default_model_home, parameters)
    (table,) = shown(notebook, "chatkit.compare(", "text/html")
    assert table.count("tokens/s") == 6 and "Name a river." in table
    (summary,) = shown(notebook, "compared.summary", "text/html")
    assert "smollm2-135m@transformers" in summary and "per million tokens" in summary
    assert shown(notebook, "compared.plot()", "image/png")
    assert "3 votes" in printed(notebook, "compared.ratings()")
    (criteria,) = shown(notebook, "compared.criteria(", "text/html")
    assert "Apache-2.0" in criteria
    assert shown(notebook, "criteria.plot()", "image/png")
    assert printed(notebook, "compared.save(").startswith("True")


# 06_evaluate


@pytest.mark.slow
def test_models_are_evaluated_and_gated(default_model_home: Path, tmp_path: Path) -> None:
    parameters = (
        'OLD = "smollm2-135m"\nNEW = "smollm2-135m-q4"\nSUITES = ["format"]\nSAMPLES = 3\n'
        f'TOKENS_OF_DRIFT = 4\nRUNS = "{tmp_path}"'
    )
    notebook = run("06_evaluate.ipynb", default_model_home, parameters)
    assert printed(notebook, "judge_gate(").startswith("format: Not enough evidence.")
    assert "of 12 tokens agree" in printed(notebook, "measure_drift(")
    (table,) = shown(notebook, "visible_gain(", "text/html")
    assert "8%" in table
    (report,) = shown(notebook, "write_html(", "text/markdown")
    assert "| smollm2-135m-q4 | format |" in report
    assert (tmp_path / "format.html").exists()
    kept = read_run(tmp_path / "format--smollm2-135m").frame
    kept.to_parquet(tmp_path / "answers.parquet")
    assert len(read_parquet(tmp_path / "answers.parquet")) == 6
