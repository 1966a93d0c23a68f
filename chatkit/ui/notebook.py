"""What the notebooks show besides answers: progress, branches, tables and a plot of speeds."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from statistics import median
from textwrap import shorten
from typing import TYPE_CHECKING, Any

from chatkit.catalogue import Entry, catalogue, find
from chatkit.conversation import Conversation
from chatkit.display import Silent
from chatkit.hardware import Hardware, memory_text
from chatkit.loading.folder import folder_of
from chatkit.loading.progress import size_text
from chatkit.memory import Verdict, verdict
from chatkit.sampling import Sampling
from chatkit.session import Chat, Model

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.tree import Tree

Cell = str | int

_REFRESH_SECONDS = 0.2
_WORDS_WIDTH = 56
# Both can be read on a white and on a black page.
_INK = "#7d7d7d"
_BAR = "#3b78bd"


@dataclass(frozen=True, slots=True)
class Table:
    """A table: HTML in a notebook, plain text elsewhere; numbers stand to the right.

    Args:
        columns: the headers.
        rows: as many cells each as there are columns.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]

    def _repr_html_(self) -> str:
        head = "".join(f"<th style='text-align: left'>{escape(name)}</th>" for name in self.columns)
        body = "".join(f"<tr>{''.join(map(_html_cell, row))}</tr>" for row in self.rows)
        return (
            "<div style='max-height: 36em; overflow: auto'>"
            f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
        )

    def __repr__(self) -> str:
        lines = [list(self.columns), *([_plain(cell) for cell in row] for row in self.rows)]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        padded = (map(str.ljust, line, widths) for line in lines)
        return "\n".join("  ".join(line).rstrip() for line in padded)


def _html_cell(cell: Cell) -> str:
    text, side = _plain(cell), "right" if isinstance(cell, int) else "left"
    # Browsers would break names at their hyphens.
    wrap = "pre-line" if " " in text else "nowrap"
    style = f"text-align: {side}; vertical-align: top; white-space: {wrap}"
    return f"<td style='{style}'>{escape(text)}</td>"


def _plain(cell: Cell) -> str:
    return f"{cell:,}" if isinstance(cell, int) else cell


@dataclass(frozen=True, slots=True)
class Choice:
    """A model of the catalogue as one machine sees it.

    Args:
        entry: the model.
        verdict: whether it fits on its default engine, with the estimate that says so.
        pulled: whether its files are here.
    """

    entry: Entry
    verdict: Verdict
    pulled: bool


def choices(hardware: Hardware) -> list[Choice]:
    """Look at every model of the catalogue from some hardware."""
    return [
        Choice(entry, verdict(entry, hardware), folder_of(entry).complete)
        for entry in catalogue().values()
    ]


_ORDERS: Mapping[str, Callable[[Choice], Any]] = {
    "catalogue": lambda choice: 0,
    "name": lambda choice: choice.entry.name,
    "weights": lambda choice: choice.entry.parameters,
    "memory": lambda choice: choice.verdict.estimate.total,
    "context, longest first": lambda choice: -choice.entry.context,
    "licence": lambda choice: choice.entry.licence.name,
}


class CatalogueBrowser:
    """The catalogue as a table, with menus that sort and filter it.

    The table is plain HTML beside the menus, so it stays readable where no kernel runs.

    Args:
        choices: the rows.
    """

    def __init__(self, choices: Sequence[Choice]) -> None:
        from ipywidgets import Dropdown

        self._choices = choices
        verdicts = dict.fromkeys(choice.verdict.outcome for choice in choices)
        self.order = Dropdown(options=list(_ORDERS), description="sort by")
        licences = ["all", "yes", "conditions", "no"]
        self.commercial = Dropdown(options=licences, description="commercial")
        self.verdict = Dropdown(options=["all", *verdicts], description="verdict")

    @property
    def table(self) -> Table:
        """The rows that the menus leave, in the order that they ask for."""
        commercial, outcome = self.commercial.value, self.verdict.value
        chosen = [
            choice
            for choice in sorted(self._choices, key=_ORDERS[self.order.value])
            if commercial in ("all", choice.entry.licence.commercial)
            and outcome in ("all", choice.verdict.outcome)
        ]
        rows = [[cell(choice) for cell in _COLUMNS.values()] for choice in chosen]
        return Table(list(_COLUMNS), rows)

    def _ipython_display_(self) -> None:
        from IPython.display import DisplayHandle, display
        from ipywidgets import HBox

        menus, place = (self.order, self.commercial, self.verdict), DisplayHandle()
        display(HBox(menus))
        place.display(self.table)
        for menu in menus:
            menu.observe(lambda _: place.update(self.table), names="value")


_COLUMNS: Mapping[str, Callable[[Choice], Cell]] = {
    "name": lambda choice: choice.entry.name,
    "million weights": lambda choice: round(choice.entry.parameters / 1_000_000),
    "context": lambda choice: choice.entry.context,
    "memory": lambda choice: memory_text(choice.verdict.estimate.total),
    "verdict": lambda choice: str(choice.verdict),
    "licence": lambda choice: choice.entry.licence.name,
    "commercial": lambda choice: choice.entry.licence.commercial,
    "gated": lambda choice: "gated" if choice.entry.gated else "",
    "engine": lambda choice: choice.entry.engines[0],
    "pulled": lambda choice: "pulled" if choice.pulled else "",
}


def licences(*names: str) -> Table:
    """Put the licences of some models side by side.

    Raises:
        UnknownModel: the catalogue has no such model.
    """
    rows = [
        (entry.name, entry.licence.name, entry.licence.commercial, entry.licence.terms)
        for entry in map(find, names)
    ]
    return Table(("model", "licence", "commercial", "in a phrase"), rows)


class PullProgress:
    """A pull's progress under the cell: its sentences, and one bar per file."""

    def __init__(self) -> None:
        self._bars: dict[str, Any] = {}
        self._shown_at = 0.0

    def say(self, sentence: str) -> None:
        """Print the sentence."""
        print(sentence)

    def advance(self, file: str, done: int, total: int | None) -> None:
        """Move the file's bar, five times a second at most."""
        from IPython.display import HTML, DisplayHandle

        if file not in self._bars:
            self._bars[file] = DisplayHandle()
            self._bars[file].display(HTML(_bar(file, done, total)))
        elif done == total or time.monotonic() - self._shown_at >= _REFRESH_SECONDS:
            self._bars[file].update(HTML(_bar(file, done, total)))
            self._shown_at = time.monotonic()


def _bar(file: str, done: int, total: int | None) -> str:
    state = f"value='{done}' max='{total}'" if total else ""
    numbers = f"{size_text(done)} of {size_text(total)}" if total else size_text(done)
    return f"<progress {state}></progress> {escape(file)}: {numbers}"


def branches(chat: Chat) -> "Tree":
    """Draw the whole conversation; what the model sees is bold, the rest is dim.

    Args:
        chat: the conversation; each line begins with the id that `checkout` takes.
    """
    from rich.text import Text
    from rich.tree import Tree

    tree = Tree(Text(f"system: {chat.system}" if chat.system else "the beginning"))
    _grow(tree, None, chat.conversation, {node.id for node in chat.path})
    return tree


def _grow(tree: "Tree", parent: str | None, conversation: Conversation, path: set[str]) -> None:
    from rich.text import Text

    for node in conversation.nodes.values():
        if node.parent == parent:
            line = Text.assemble((f"{node.id}  ", "dim"))
            words = shorten(node.message.content, _WORDS_WIDTH, placeholder=" …")
            line.append(f"{node.message.role}: {words}", "bold" if node.id in path else "dim")
            _grow(tree.add(line), node.id, conversation, path)


def answers(models: Sequence[Model], questions: Sequence[str], sampling: Sampling) -> Table:
    """Ask every model every question, each in a conversation of its own.

    Args:
        models: who answers; each has a column.
        questions: each has a row.
        sampling: how the answers are drawn.

    Raises:
        ChatkitError: as `Chat.send`.
    """
    rows = [
        (question, *(_ask(model, question, sampling) for model in models)) for question in questions
    ]
    return Table(("question", *(model.name for model in models)), rows)


def _ask(model: Model, question: str, sampling: Sampling) -> str:
    return Chat(model, display=Silent()).send(question, sampling=sampling).text.strip()


def speeds(model: Model, question: str, tokens: int, repeats: int) -> tuple[float, ...]:
    """Measure how fast a model writes after its first text, in tokens per second of each answer.

    One answer before them only warms up and is not counted.

    Args:
        model: who answers.
        question: what is asked, each time in a conversation of its own.
        tokens: the longest answer.
        repeats: how many answers are counted.

    Raises:
        ChatkitError: as `Chat.send`.
    """
    sampling = Sampling(max_tokens=tokens, temperature=0)
    replies = [
        Chat(model, display=Silent()).send(question, sampling=sampling) for _ in range(repeats + 1)
    ]
    return tuple(reply.usage.tokens_per_second for reply in replies[1:] if reply.usage)


def speed_plot(measured: Mapping[str, Sequence[float]]) -> "Figure":
    """Plot speeds: a bar for each model's median, a dot for each answer.

    Args:
        measured: for each model what `speeds` gave.
    """
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 0.9 + 0.7 * len(measured)), dpi=120)
    for place, values in enumerate(measured.values()):
        middle = median(values)
        axes.barh(place, middle, height=0.5, color=_BAR)
        axes.text(0, place, f"  {middle:.0f}", color="white", va="center", weight="bold")
        axes.plot(values, [place] * len(values), "o", color="white", markeredgecolor=_INK)
    axes.set_yticks(range(len(measured)), list(measured))
    axes.invert_yaxis()
    axes.set_xlabel("tokens per second (bar: median, dots: single answers)", color=_INK)
    axes.tick_params(colors=_INK, labelsize=11)
    axes.spines[:].set_color(_INK)
    axes.spines[["top", "right"]].set_visible(False)
    # No background, so that light and dark pages show their own.
    figure.patch.set_alpha(0)
    axes.patch.set_alpha(0)
    # Closed, so that the notebook shows it once: as the value of its cell.
    pyplot.close(figure)
    return figure
