"""What the app makes of Markdown, and which models it offers."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from chatkit.markdown import ATTRIBUTES, TAGS, GrowingMarkdown, to_html
from chatkit.ui.model_facts import model_facts
from chatkit.ui.model_names import labelled, model_names

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

Maths \\(a_1\\) and $x^2$, on its own

$$
\\frac{a}{b}

c
$$

\\[
d

e
\\]

- [ ] last ~~item~~
- [x] done
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

    assert ended + tail == ended + growing.end() == to_html(DOCUMENT)
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


@pytest.mark.parametrize(
    ("markdown", "html"),
    [
        ("$x^2$", '<span class="math inline">x^2</span>'),
        ("\\(a<b\\)", '<span class="math inline">a&lt;b</span>'),
        ("$$x$$ y", '<span class="math block">x</span>'),
        ("$$\nx\n$$", '<div class="math block">x</div>'),
        ("\\[\nx\n\\]", '<div class="math block">x</div>'),
        ("it costs $5 or $10", "<p>it costs $5 or $10</p>"),
        ("`$x$`", "<code>$x$</code>"),
        ("- [x] a", '<span class="task done" role="img" aria-label="Done"></span> a'),
        ("```py\nif 1:\n```", '<span class="c-k">if</span>'),
        ("```py\nx\n```", '<pre data-language="py"><code class="language-py">'),
        ("```nolanguage\n<b>\n```", '<code class="language-nolanguage">&lt;b&gt;\n</code>'),
        ('```"onload=x\ny\n```', "<pre><code>y\n</code></pre>"),
    ],
)
def test_code_is_coloured_and_maths_and_tasks_are_marked(markdown: str, html: str) -> None:
    assert html in to_html(markdown)


def test_what_looks_like_maths_and_never_ends_is_shown_as_text_and_costs_little() -> None:
    growing, ended = GrowingMarkdown(), ""
    for _ in range(400):
        ended += growing.add("$$ x\n\nand so on and on\n\n")[0]
    assert len(ended) > 0


def test_long_code_stays_in_one_colour_while_it_grows_and_when_it_is_very_long() -> None:
    growing = GrowingMarkdown()
    assert "c-k" in growing.add("```py\nif 1: pass\n")[1]
    assert "c-k" not in growing.add("if 1: pass\n" * 300)[1]
    assert "c-k" in growing.end("```\n")
    assert "c-k" not in to_html(f"```py\n{'if 1: pass' * 6_000}\n```")


def test_an_image_becomes_a_link() -> None:
    assert 'href="https://example.com/x.png"' in to_html("![x](https://example.com/x.png)")


def test_models_that_are_added_are_offered_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHATKIT_APP_MODELS", " scripted:, ,./folder,scripted: ")

    assert model_names() == ("scripted:", "./folder")


def test_adapters_of_a_folder_are_offered_by_their_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place in ("a/pirate", "a/poet", "b/pirate", "a/empty"):
        folder = tmp_path / place
        folder.mkdir(parents=True)
        if folder.name != "empty":
            config = {"peft_type": "LORA", "base_model_name_or_path": "smollm2-135m", "r": 8}
            told = json.dumps({**config, "target_modules": ["q_proj"]})
            (folder / "adapter_config.json").write_text(told)
            (folder / "adapter_model.safetensors").touch()
    monkeypatch.setenv("CHATKIT_APP_ADAPTERS", str(tmp_path / "a"))
    monkeypatch.setenv("CHATKIT_APP_MODELS", str(tmp_path / "b" / "pirate"))
    names = model_names()
    assert [Path(one).relative_to(tmp_path).as_posix() for one in names] == [
        *("b/pirate", "a/pirate", "a/poet"),
    ]
    assert list(labelled(names)) == [names[0], names[1], "poet"]
    told = model_facts(names[2])
    assert told.startswith("poet: a LoRA adapter of rank 8 on smollm2-135m\n")
    assert "Apache-2.0" in told


@pytest.mark.model
def test_models_that_are_pulled_are_offered_on_each_engine(
    default_model_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHATKIT_HOME", str(default_model_home))

    assert model_names()[:2] == ("smollm2-135m", "smollm2-135m@transformers")


def test_a_models_licence_size_and_fit_are_told_before_it_is_chosen() -> None:
    told = model_facts("smollm2-135m@transformers")
    assert "135 million weights" in told and "Apache-2.0" in told and "fits" in told
    assert model_facts("scripted:").startswith("scripted: is not in the catalogue")
    assert model_facts("nowhere-7b").startswith("nowhere-7b is not in the catalogue")


ALLOWED = frozenset({"https://pictures.example.org", "http://127.0.0.1:8000"})


@pytest.mark.parametrize(
    ("source", "tag"),
    [
        ("https://pictures.example.org/a.png", "img"),
        ("http://127.0.0.1:8000/a", "img"),
        ("https://pictures.example.org/a.MP3?x=1", "audio"),
        ("https://pictures.example.org/a.webm#t=2", "video"),
    ],
)
def test_what_comes_from_an_allowed_source_is_shown(source: str, tag: str) -> None:
    html = to_html(f'![a "tide" & more]({source})', media=ALLOWED)
    assert f'<{tag} src="{source}"' in html
    assert "&quot;tide&quot; &amp; more" in html and "<a " not in html
    assert f"<{tag}" not in to_html(f"![a]({source})")


@pytest.mark.parametrize(
    "source",
    [
        "https://pictures.example.org.evil.example/a.png",
        "https://pictures.example.org@evil.example/a.png",
        "https://evil.example/https://pictures.example.org/a.png",
        "http://pictures.example.org/a.png",
        "https://pictures.example.org:8443/a.png",
        "//pictures.example.org/a.png",
        "https:pictures.example.org/a.png",
        "https://pictures.example.org\\@evil.example/a.png",
        "https:///pictures.example.org/a.png",
        "data:image/png;base64,AAAA",
        "javascript:alert(1)",
        "/etc/passwd",
    ],
)
def test_what_comes_from_anywhere_else_is_not(source: str) -> None:
    html = to_html(f"![a]({source})", media=ALLOWED)
    assert not re.search("<(img|audio|video)", html)


def test_raw_media_are_text_and_hostile_texts_stay_harmless_with_media_allowed() -> None:
    assert "&lt;img" in to_html("<img src='https://pictures.example.org/a.png'>", media=ALLOWED)
    for text in HOSTILE:
        html = to_html(text, media=ALLOWED)
        assert not re.search(r"<(img|audio|video|script|iframe)|<[^>]*\son\w+=", html), text
