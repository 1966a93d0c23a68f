"""What messages look like: code, maths, tasks, times, long texts; and what they cannot do."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import SLOW_APP, App, Visit, Visitor, running_app
from hostile_texts import hostile_texts
from playwright.sync_api import Browser, expect

from chatkit.background import wait_for
from chatkit.exchange.reading import read_conversations
from chatkit.settings import settings
from chatkit.ui.visitor import visitor_of

pytest_plugins = "visiting"
pytestmark = pytest.mark.browser

TOKEN = "ab" * 32


def test_code_has_its_colours_its_language_and_its_tools(echo_app: App, visit: Visit) -> None:
    visitor = visit(echo_app)
    visitor.ask("see\n\n```python\ndef double(x):\n    return 2 * x\n```")
    answer = visitor.answers.last
    expect(answer.locator(".language")).to_have_text("python")
    expect(answer.locator(".c-k").first).to_have_text("def")
    with visitor.page.expect_download() as downloading:
        answer.get_by_role("button", name="Download code").click()
    assert downloading.value.suggested_filename == "code.py"
    assert Path(downloading.value.path()).read_text() == "def double(x):\n    return 2 * x\n"
    wrap = answer.get_by_role("button", name="Wrap lines")
    wrap.click()
    expect(wrap).to_have_attribute("aria-pressed", "true")
    expect(answer.locator("pre")).to_have_css("white-space", "pre-wrap")


def test_copied_code_is_the_code(echo_app: App, browser: Browser) -> None:
    context = browser.new_context(permissions=["clipboard-read", "clipboard-write"])
    visitor = Visitor(context.new_page(), echo_app)
    visitor.ask("see\n\n```js\nlet a = '<b>'\n```")
    visitor.answers.last.get_by_role("button", name="Copy code").click()
    assert visitor.page.evaluate("navigator.clipboard.readText()") == "let a = '<b>'\n"
    context.close()


def test_maths_is_typeset_and_what_is_no_maths_stays_as_it_is(echo_app: App, visit: Visit) -> None:
    visitor = visit(echo_app)
    visitor.ask("so $x^2$ and\n\n$$\n\\frac{a}{b}\n$$\n\nbut $\\nothing{$ is wrong")
    answer = visitor.answers.last
    expect(answer.locator(".math.inline math msup")).to_be_visible()
    expect(answer.locator(".math.block math[display=block] mfrac")).to_be_visible()
    expect(answer.locator(".math.wrong")).to_have_text("\\nothing{")


def test_a_task_list_tells_what_is_done(echo_app: App, visit: Visit) -> None:
    visitor = visit(echo_app)
    visitor.ask("list\n\n- [x] one\n- [ ] two")
    answer = visitor.answers.last
    expect(answer.get_by_role("img", name="Done", exact=True)).to_have_count(1)
    expect(answer.get_by_role("img", name="Not done")).to_have_count(1)


@pytest.mark.slow
def test_a_long_question_is_cut_until_all_of_it_is_asked_for(echo_app: App, visit: Visit) -> None:
    visitor = visit(echo_app)
    visitor.ask("\n".join(f"line {n}" for n in range(60)))
    question = visitor.questions.last
    cut = question.bounding_box()
    question.get_by_role("button", name="Show all").click()
    whole = question.bounding_box()
    assert cut and whole and whole["height"] > 2 * cut["height"]
    expect(question.get_by_role("button", name="Show less")).to_be_visible()


def test_a_message_tells_when_it_was_said(echo_app: App, visit: Visit) -> None:
    visitor = visit(echo_app)
    visitor.ask("hi")
    said = visitor.answers.last.get_by_role("time")
    assert re.match(r"\d{4}-\d\d-\d\dT", said.get_attribute("datetime") or "")
    exact = said.get_attribute("title") or ""
    assert len(exact) > len(said.inner_text())
    shown = "one => getComputedStyle(one, '::after').content"
    assert said.evaluate(shown) == "none"
    visitor.field.press("Shift+Tab")
    for _ in range(12):
        if said.evaluate(shown) != "none":
            break
        visitor.page.keyboard.press("Shift+Tab")
    assert said.evaluate(shown) == f'"{exact}"'


@pytest.fixture(scope="module")
def hostile_app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[App, str]]:
    """The app with an imported conversation of nothing but hostile texts."""
    folder = tmp_path_factory.mktemp("hostile")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CHATKIT_HOME", str(folder / "home"))
        conversation = wait_for(_import(folder / "chat.json"))
    with running_app(folder / "log", folder / "home", "scripted:", script=SLOW_APP) as app:
        yield app, conversation


async def _import(file: Path) -> str:
    from chatkit.models import Models
    from chatkit.service import open_chat_service

    texts = hostile_texts()
    turns = [
        {"from": "human" if place % 2 == 0 else "gpt", "value": text}
        for place, text in enumerate(text for text in texts for _ in range(2))
    ]
    file.write_text(json.dumps([{"id": texts[0], "conversations": turns}]))
    service = await open_chat_service(settings(), Models(), titles=False)
    try:
        user = visitor_of(TOKEN)
        (name,) = await service.import_conversations(user, list(read_conversations(file)))
        await service.rename(user, name, "</title><script>window.ran=1</script>")
        return name
    finally:
        await service.close()


PRESS_ALL = """() => {
    window.open = () => null
    const roots = root => [root, ...[...root.querySelectorAll("*")]
        .flatMap(one => one.shadowRoot ? roots(one.shadowRoot) : [])]
    const all = roots(document)
    for (const one of all.flatMap(one => [...one.querySelectorAll(".message.assistant")])) {
        window.seen.add(one.dataset.id)
    }
    const inside = all.flatMap(one => [...one.querySelectorAll(".text *")])
    window.links.push(...inside.filter(one => one.href).map(one => one.href))
    window.handlers += inside.filter(one => [...one.attributes].some(
        attribute => attribute.name.startsWith("on"))).length
    for (const one of inside) {
        one.addEventListener("click", event => event.preventDefault())
        one.dispatchEvent(new MouseEvent("click", {bubbles: true, cancelable: true}))
        one.dispatchEvent(new MouseEvent("mouseover", {bubbles: true}))
    }
}"""


def test_nothing_of_150_hostile_texts_and_more_runs(
    hostile_app: tuple[App, str], browser: Browser
) -> None:
    app, conversation = hostile_app
    assert len(hostile_texts()) >= 150
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    context.add_init_script(f"localStorage['chatkit.visitor'] = '{TOKEN}'")
    visitor = Visitor(context.new_page(), app, f"{app.url}?conversation={conversation}")
    visitor.answers.first.wait_for()
    # Whatever can be pressed in an answer is pressed; links to elsewhere lead nowhere here.
    context.route(re.compile("example"), lambda route: route.abort())
    visitor.page.evaluate("window.seen = new Set(); window.links = []; window.handlers = 0")
    older = visitor.page.get_by_role("button", name="Earlier messages")
    visitor.page.evaluate(PRESS_ALL)
    while older.is_visible():
        oldest = visitor.page.locator(".message").first
        before = oldest.get_attribute("data-id") or ""
        older.click()
        expect(oldest).not_to_have_attribute("data-id", before)
        visitor.page.evaluate(PRESS_ALL)
    assert visitor.page.evaluate("window.seen.size") == len(hostile_texts())
    visitor.page.wait_for_timeout(500)
    assert visitor.page.evaluate("[window.ran ?? null, window.handlers]") == [None, 0]
    links = visitor.page.evaluate("window.links")
    assert links and [one for one in links if not re.match("https?:|mailto:", one)] == []
    strangers = [url for url in visitor.strangers() if "example" not in url]
    assert strangers == [] and visitor.page.title().startswith("</title>")
    context.close()


@pytest.mark.slow
def test_a_long_answer_that_ended_out_of_sight_is_told(echo_app: App, browser: Browser) -> None:
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    context.add_init_script(
        """window.told = []
        window.Notification = class {
            static permission = "granted"
            static requestPermission = async () => "granted"
            constructor(title, options) { window.told.push(options.body) }
        }"""
    )
    visitor = Visitor(context.new_page(), echo_app)
    page = visitor.page
    page.get_by_role("button", name="Preferences").click()
    page.get_by_label("The browser tells").check()
    page.get_by_role("button", name="Close", exact=True).click()
    page.wait_for_timeout(1000)
    visitor.ask("slowly " + "word " * 70)
    assert page.evaluate("window.told") == []
    page.evaluate("Object.defineProperty(document, 'hidden', {get: () => true})")
    visitor.ask("slowly " + "again " * 70)
    assert page.evaluate("window.told.length") == 1
    context.close()
