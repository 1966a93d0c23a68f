"""What the notebooks show besides answers: progress, branches, tables and a plot of speeds."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from statistics import median
from textwrap import shorten
from typing import TYPE_CHECKING, Any

from chatkit.catalogue import Entry, find
from chatkit.conversation import Conversation
from chatkit.display import Silent
from chatkit.loading.progress import size_text
from chatkit.sampling import Sampling
from chatkit.session import Chat, Model

if TYPE_CHECKING:
    from matplotlib.axes import Axes
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
        head = "".join(f"<th style='{_HEAD}'>{escape(name)}</th>" for name in self.columns)
        body = "".join(f"<tr>{''.join(map(_html_cell, row))}</tr>" for row in self.rows)
        return (
            "<div style='max-height: 36em; overflow: auto'>"
            f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
        )

    def __repr__(self) -> str:
        lines = [self.columns, *(map(_plain, row) for row in self.rows)]
        return "\n".join("  ".join(line) for line in lines)


_HEAD = "text-align: left; vertical-align: bottom"


def _html_cell(cell: Cell) -> str:
    side = "right" if isinstance(cell, int) else "left"
    style = f"text-align: {side}; vertical-align: top; white-space: pre-line"
    return f"<td style='{style}'>{escape(_plain(cell))}</td>"


def _plain(cell: Cell) -> str:
    return f"{cell:,}" if isinstance(cell, int) else cell


@dataclass(frozen=True, slots=True)
class Choice:
    """A model of the catalogue as this machine sees it.

    Args:
        entry: the model.
        memory: an estimate of the bytes that it takes on its default engine.
        fit: whether that fits here.
        pulled: whether its files are here.
    """

    entry: Entry
    memory: int
    fit: str
    pulled: bool


_ORDERS: Mapping[str, Callable[[Choice], Any]] = {
    "catalogue": lambda choice: 0,
    "name": lambda choice: choice.entry.name,
    "weights": lambda choice: choice.entry.parameters,
    "memory": lambda choice: choice.memory,
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
        from ipywidgets import Dropdown  # type: ignore[import-untyped]

        self._choices = choices
        fits = dict.fromkeys(choice.fit for choice in choices)
        self.order = Dropdown(options=list(_ORDERS), description="sort by")
        self.commercial = Dropdown(
            options=["all", "yes", "conditions", "no"], description="commercial"
        )
        self.fit = Dropdown(options=["all", *fits], description="fits")

    @property
    def table(self) -> Table:
        """The rows that the menus leave, in the order that they ask for."""
        chosen = sorted(filter(self._is_wanted, self._choices), key=_ORDERS[self.order.value])
        rows = [[cell(choice) for cell in _COLUMNS.values()] for choice in chosen]
        return Table(list(_COLUMNS), rows)

    def _is_wanted(self, choice: Choice) -> bool:
        commercial = self.commercial.value in ("all", choice.entry.licence.commercial)
        return commercial and self.fit.value in ("all", choice.fit)

    def _ipython_display_(self) -> None:
        from IPython.display import display
        from ipywidgets import HBox

        menus = (self.order, self.commercial, self.fit)
        display(HBox(menus))
        place = display(self.table, display_id=True)
        for menu in menus:
            menu.observe(lambda _: place.update(self.table), names="value")


_COLUMNS: Mapping[str, Callable[[Choice], Cell]] = {
    "name": lambda choice: choice.entry.name,
    "million weights": lambda choice: round(choice.entry.parameters / 1_000_000),
    "context": lambda choice: choice.entry.context,
    "memory": lambda choice: size_text(choice.memory),
    "fits": lambda choice: choice.fit,
    "licence": lambda choice: choice.entry.licence.name,
    "commercial": lambda choice: choice.entry.licence.commercial,
    "gated": lambda choice: "gated" if choice.entry.gated else "",
    "engines": lambda choice: ", ".join(choice.entry.engines),
    "pulled": lambda choice: "pulled" if choice.pulled else "",
}


def licences(*names: str) -> Table:
    """Put the licences of some models side by side.

    Raises:
        UnknownModel: the catalogue has no such model.
    """
    entries = [find(name) for name in names]
    rows = [
        (entry.name, entry.licence.name, entry.licence.commercial, entry.licence.terms)
        for entry in entries
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
        from IPython.display import HTML, display

        if file not in self._bars:
            self._bars[file] = display(HTML(_bar(file, done, total)), display_id=True)
        elif done == total or time.monotonic() - self._shown_at >= _REFRESH_SECONDS:
            self._bars[file].update(HTML(_bar(file, done, total)))
            self._shown_at = time.monotonic()


def _bar(file: str, done: int, total: int | None) -> str:
    if not total:
        return f"<progress></progress> {escape(file)}: {size_text(done)}"
    numbers = f"{size_text(done)} of {size_text(total)}"
    return f"<progress value='{done}' max='{total}'></progress> {escape(file)}: {numbers}"


def branches(chat: Chat) -> "Tree":
    """Draw the whole conversation; what the model sees is bold, the rest is dim.

    Args:
        chat: the conversation; each line begins with the id that `checkout` takes.
    """
    from rich.tree import Tree

    tree = Tree(f"system: {chat.system}" if chat.system else "the beginning")
    _grow(tree, None, chat.conversation, {node.id for node in chat.path})
    return tree


def _grow(tree: "Tree", parent: str | None, conversation: Conversation, path: set[str]) -> None:
    from rich.text import Text

    for node in conversation.nodes.values():
        if node.parent == parent:
            line = Text(f"{node.id}  ", "dim")
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
    """Measure how fast a model writes, after one answer that is not counted.

    Args:
        model: who answers.
        question: what is asked, each time in a conversation of its own.
        tokens: the longest answer.
        repeats: how many answers are counted.

    Returns:
        Tokens per second of each answer, counted from its first text on.

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
    names, medians = list(measured), [median(values) for values in measured.values()]
    bars = axes.barh(names, medians, height=0.5, color=_BAR)
    axes.bar_label(bars, [f"{value:.0f}" for value in medians], label_type="center", color="white")
    for name, values in measured.items():
        axes.plot(values, [name] * len(values), "o", color=_INK, markersize=4)
    axes.set_xlabel("tokens per second (bar: median, dots: single answers)")
    axes.invert_yaxis()
    _for_any_page(figure, axes)
    # Closed, so that the notebook shows it once: as the value of its cell.
    pyplot.close(figure)
    return figure


def _for_any_page(figure: "Figure", axes: "Axes") -> None:
    """Leave out the background and draw in a grey that a light and a dark page carry."""
    figure.patch.set_alpha(0)
    axes.patch.set_alpha(0)
    axes.tick_params(colors=_INK, labelsize=11)
    axes.xaxis.label.set_color(_INK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(_INK)
