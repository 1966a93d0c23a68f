"""A conversation as one HTML file to keep or to print: the path that its reader stands on."""

from html import escape
from typing import TextIO

from chatkit.exchange.portable import Portable, PortableNode
from chatkit.markdown import to_html

_STYLE = """
body { max-width: 46rem; margin: 2rem auto; padding: 0 1rem; font: 1rem/1.6 system-ui, sans-serif;
  color: #1f2328; background: #fff; overflow-wrap: anywhere; }
article { margin: 1.5rem 0; }
article.user { margin-left: 15%; padding: .6rem 1rem; border-radius: 1rem; background: #eef1fd; }
article.user p { margin: 0; white-space: pre-wrap; }
header { font-size: .8rem; color: #57606a; }
pre { padding: .8rem 1rem; border-radius: .5rem; background: #f4f4f5; white-space: pre-wrap; }
td, th { padding: .3em .7em; border: 1px solid #d0d7de; } table { border-collapse: collapse; }
@media (prefers-color-scheme: dark) {
  body { color: #e6e6e6; background: #16181d; } article.user { background: #262b3d; }
  pre { background: #22252c; } header { color: #9aa3ad; } a { color: #91a7ff; }
}
"""
_SPEAKERS = {"user": "You", "assistant": "Assistant", "system": "System", "tool": "Tool"}


def write_page(conversation: Portable, file: TextIO) -> None:
    """Write a conversation as a page that asks nobody for anything.

    Args:
        conversation: what to write.
        file: open for text in UTF-8.
    """
    title = escape(" ".join(conversation.title.split()) or "Untitled")
    file.write(
        "<!doctype html><html lang='en'><meta charset='utf-8'><meta name='viewport' "
        f"content='width=device-width'><title>{title}</title><style>{_STYLE}</style>"
        f"<h1>{title}</h1>\n"
    )
    for node in conversation.path():
        file.write(_article(node))
    file.write("</html>\n")


def _article(node: PortableNode) -> str:
    said, role = node.message.content, node.message.role
    text = f"<p>{escape(said)}</p>" if role == "user" else to_html(said)
    at = node.created.isoformat(timespec="minutes")
    head = f"<header>{_SPEAKERS[role]}, <time>{at}</time></header>"
    return f"<article class='{role}'>{head}{text}</article>\n"
