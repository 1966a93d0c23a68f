"""What the app makes of Markdown, and which models it offers."""

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from chatkit.markdown import ATTRIBUTES, TAGS, GrowingMarkdown, to_html
from chatkit.ui.model_names import model_names

DOCUMENT = """Intro with *stress*
***bold* start**
# Heading
1. one

   more of one
2. two
   * nested

> quoted
goes on

| a | b |
|---|--:|
| 1 | 2 |

```python
x = "<b>"

# no heading
```
Setext
---
[link](https://example.com "title") and `code`

    indented

- [ ] last ~~item~~
"""

HOSTILE = (
    "<script>alert(1)</script>",
    "a <img src=x onerror=alert(1)> b",
    "![x](http://example.com/x.png)",
    "[x](javascript:alert(1))",
    "[x](JaVaScRiPt&#58;alert(1))",
    "[x](data:text/html;base64,PHNjcmlwdD4=)",
    "[x](file:///etc/passwd)",
    "<javascript:alert(1)>",
    '[x](https://example.com" onclick="alert(1))',
    "[x]: javascript:alert(1)\n\n[x]",
    '```"><script>alert(1)</script>\ncode\n```',
    "<style>* { display: none }</style>",
)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 50, 10_000])
def test_markdown_in_pieces_becomes_the_same_html_as_the_whole(size: int) -> None:
    growing = GrowingMarkdown()
    ended, tail = "", ""

    for start in range(0, len(DOCUMENT), size):
        more, tail = growing.add(DOCUMENT[start : start + size])
        ended += more

    assert ended + tail == to_html(DOCUMENT)
    assert "<h1>Heading</h1>" in ended


@pytest.mark.parametrize("hostile", HOSTILE)
def test_markdown_makes_only_harmless_elements(hostile: str) -> None:
    class Harmless(HTMLParser):
        def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
            assert tag in TAGS
            for name, value in attributes:
                assert name == "rel" or name in ATTRIBUTES[tag]
                assert name != "href" or re.match("https?:|mailto:", value or "")

    Harmless().feed(to_html(hostile))


def test_an_image_becomes_a_link() -> None:
    assert 'href="https://example.com/x.png"' in to_html("![x](https://example.com/x.png)")


def test_models_that_are_added_are_offered_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHATKIT_APP_MODELS", " scripted:, ,./folder,scripted: ")

    assert model_names() == ("scripted:", "./folder")


@pytest.mark.model
def test_models_that_are_pulled_are_offered_on_each_engine(
    default_model_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHATKIT_HOME", str(default_model_home))

    assert model_names()[:2] == ("smollm2-135m", "smollm2-135m@transformers")
