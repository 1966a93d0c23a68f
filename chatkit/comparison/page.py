"""A comparison as HTML: the answers side by side, what differs marked."""

from html import escape
from pathlib import Path

from chatkit.comparison.differing import marked_differences
from chatkit.comparison.result import Comparison, Reply
from chatkit.markdown import to_html

STYLE = """
.chatkit-compare { overflow-x: auto; }
.chatkit-compare table { border-collapse: collapse; }
.chatkit-compare > table { table-layout: fixed; width: 100%; min-width: 40em; }
.chatkit-compare th, .chatkit-compare td { text-align: left; vertical-align: top;
  padding: .5em .8em; white-space: normal; }
.chatkit-compare td.asked { font-weight: 600; border-top: 1px solid #8885; }
.chatkit-compare .text { overflow-wrap: anywhere; max-height: 24em; overflow-y: auto; }
.chatkit-compare .text > :first-child { margin-top: 0; }
.chatkit-compare .text > :last-child { margin-bottom: 0; }
.chatkit-compare pre { white-space: pre-wrap; background: #8881; padding: .6em; }
.chatkit-compare th small, .chatkit-compare .said { color: #7d7d7d; font-size: .85em;
  font-weight: normal; margin-top: .4em; display: block; }
.chatkit-compare .said.failed { color: #c0392b; }
.chatkit-compare mark { background: #3b78bd33; color: inherit; }
"""


def table_of(comparison: Comparison) -> str:
    """Give the answers side by side as a table with its style."""
    body = "".join(_row(comparison, place) for place in range(len(comparison.prompts)))
    head = "".join(f"<th>{_head(comparison, model)}</th>" for model in comparison.models)
    return (
        f"<style>{STYLE}</style><div class='chatkit-compare'><table><thead><tr>{head}</tr>"
        f"</thead><tbody>{body}</tbody></table></div>"
    )


def write_page(table: str, path: Path) -> None:
    """Write a table as a page of its own."""
    page = (
        "<!doctype html><html lang='en'><meta charset='utf-8'><meta name='viewport' "
        "content='width=device-width'><title>Comparison</title>"
        f"<body style='font-family: system-ui, sans-serif'>{table}</body></html>"
    )
    path.write_text(page, "utf-8")


def _head(comparison: Comparison, model: str) -> str:
    figures = comparison.figures(model)
    said = []
    if memory := figures["memory (MB)"]:
        said.append(f"{memory:,} MB")
    if (cost := figures.get("per million tokens")) is not None:
        said.append(f"{cost:,.2f} for a million tokens")
    small = f"<small>{', '.join(said)}</small>" if said else ""
    return escape(model) + small


def _row(comparison: Comparison, place: int) -> str:
    asked = escape(comparison.prompts[place][-1].content)
    first = comparison.replies.get((place, comparison.models[0]))
    cells = []
    for model in comparison.models:
        reply = comparison.replies.get((place, model)) or Reply()
        if first is not None and reply is not first and reply.whole:
            text = marked_differences(first.text, reply.text)
        else:
            text = to_html(reply.text)
        cells.append(f"<td><div class='text'>{text}</div>{_said_of(reply)}</td>")
    span = len(comparison.models)
    return f"<tr><td class='asked' colspan='{span}'>{asked}</td></tr><tr>{''.join(cells)}</tr>"


def _said_of(reply: Reply) -> str:
    if reply.error:
        return f"<div class='said failed'>{escape(reply.error)}</div>"
    if not reply.done:
        return "<div class='said'>writing …</div>" if reply.text else "<div class='said'>…</div>"
    return (
        f"<div class='said'>{reply.tokens} tokens, {reply.tokens_per_second:.0f} tokens/s, first "
        f"after {reply.first_token_seconds:.2f} s</div>"
    )
