"""The page at ``/`` in a real browser, driven by Playwright, against real servers."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi")
api = pytest.importorskip("playwright.sync_api", reason="pip install .[dev]")

from glmcore.server.page import headers, source  # noqa: E402

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
ASSISTANT, USER, OBSERVATION = 151337, 151336, 151338
PHONE, DESK = {"width": 360, "height": 700}, {"width": 1200, "height": 800}
WEATHER = '[{"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}}]'


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    path = os.environ.get("GLM_BROWSER") or next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        pytest.skip("no Chromium here (GLM_BROWSER names one)")
    api.expect.set_options(timeout=20_000)
    with api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    """A fresh profile; whatever the page logs as an error, a refused script for one, fails the test."""
    context = browser.new_context(viewport=DESK, locale="en-GB")
    opened, complaints = context.new_page(), []
    opened.set_default_timeout(20_000)
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.on("console", lambda said: complaints.append(said.text) if "Content Security" in said.text else None)
    yield opened
    context.close()
    assert not complaints


@pytest.fixture(scope="module")
def endless_server(local: Callable[..., Any], endless: Path) -> Any:
    return local(endless)


def says(tiny: Callable[[str], Path], text: str, end: int = USER) -> tuple[int, ...]:
    from glmcore.tokenizers import load_tokenizer

    return (ASSISTANT, *load_tokenizer(tiny("glm4"), "glm4").encode(text), end)


def visit(page: Any, server: Any) -> None:
    page.goto(f"http://127.0.0.1:{server.port}/")


def ask(page: Any, text: str) -> None:
    page.get_by_label("Your message").fill(text)
    page.get_by_label("Your message").press("Enter")


def answered(page: Any, count: int = 1) -> None:
    """The answer has come to its end."""
    api.expect(page.locator(".message.assistant")).to_have_count(count)
    api.expect(page.locator("#talk")).to_have_attribute("aria-busy", "false")


def limited(page: Any, tokens: int = 5) -> None:
    page.get_by_text("Settings").click()
    page.get_by_label("Most tokens").fill(str(tokens))
    page.get_by_label("Temperature").fill("0")


def test_a_conversation_is_streamed_stopped_edited_and_kept(page: Any, endless_server: Any) -> None:
    visit(page, endless_server)
    api.expect(page).to_have_title(endless_server.engine.config.name)  # once the server has told it
    ask(page, "hello")
    api.expect(page.locator(".message.assistant p").first).not_to_be_empty()
    page.get_by_role("button", name="Stop").click()
    answered(page)
    assert "stopped" in page.locator(".message.assistant").inner_text()
    endless_server.until(lambda stats: stats["queue"]["running"] == 0)
    limited(page)
    page.get_by_role("button", name="Ask again").click()
    answered(page)
    told = page.locator(".message.assistant").inner_text()
    assert "tokens/s" in told and "cut at the limit of tokens" in told
    first = page.locator(".message.assistant p").first.inner_text()
    page.get_by_role("button", name="Go on").click()
    answered(page)
    assert len(page.locator(".message.assistant p").first.inner_text()) > len(first)
    assert page.locator(".message.assistant p").first.inner_text().startswith(first)
    page.get_by_role("button", name="Edit").click()
    api.expect(page.get_by_label("Your message")).to_have_value("hello")
    ask(page, "another")
    answered(page)
    page.get_by_role("button", name="New conversation").first.click()
    ask(page, "the second conversation")
    answered(page)
    page.reload()
    api.expect(page.locator("#list li")).to_have_count(2)
    api.expect(page.get_by_label("Most tokens")).to_have_value("5")
    page.get_by_role("button", name="another", exact=True).click()
    api.expect(page.locator(".message.user .text")).to_have_text("another")
    page.once("dialog", lambda asked: asked.accept())
    page.get_by_role("button", name="Delete: another").click()
    api.expect(page.locator("#list li")).to_have_count(1)


def test_nothing_is_lost_by_a_click_or_by_a_second_window(page: Any, endless_server: Any) -> None:
    visit(page, endless_server)
    limited(page)
    for number, text in enumerate(("one", "two"), 1):
        ask(page, text)
        answered(page, number)
    first = page.locator(".message.user").first
    first.get_by_role("button", name="Edit").click()
    page.keyboard.press("Escape")
    api.expect(page.get_by_label("Your message")).to_have_value("")
    first.get_by_role("button", name="Edit").click()
    page.reload()
    api.expect(page.locator(".message.user .text")).to_have_text(["one", "two"])
    page.get_by_role("button", name="Delete: one").click()  # and the browser's question is denied
    other = page.context.new_page()
    visit(other, endless_server)
    other.get_by_role("button", name="New conversation").first.click()
    ask(other, "elsewhere")
    answered(other)
    api.expect(page.locator("#list li")).to_have_count(2)
    ask(page, "three")
    answered(page, 3)
    other.reload()
    api.expect(other.locator("#list li")).to_have_count(2)


def test_the_keyboard_and_another_language_keep_their_place(page: Any, endless_server: Any) -> None:
    visit(page, endless_server)
    page.get_by_label("Your message").fill("hello")
    page.get_by_label("Your message").press("Tab")
    page.keyboard.press("Enter")
    api.expect(page.get_by_role("button", name="Stop")).to_be_focused()
    page.locator("#language").select_option("zh")
    shown = page.locator(".message.assistant")
    before = shown.inner_text()
    api.expect(shown).not_to_have_text(before)
    page.get_by_role("button", name="停止").press("Enter")
    api.expect(page.get_by_label("输入消息")).to_be_focused()


MADE = "t => { const made = document.createElement('div'); made.append(...markdown(t)); return made.innerHTML; }"


def test_lists_stand_within_lists(page: Any, endless_server: Any) -> None:
    visit(page, endless_server)
    text = "1. a\n   - b\n   - c\n2. d\n* e\n---\nf"
    wanted = '<ol start="1"><li>a<ul><li>b</li><li>c</li></ul></li><li>d</li></ol><ul><li>e</li></ul><hr><p>f</p>'
    assert page.evaluate(MADE, text) == wanted


def test_an_answer_is_shown_as_text_and_markdown_never_as_html(
    page: Any, reciting: Callable[..., Path], local: Callable[..., Any], tiny: Callable[[str], Path]
) -> None:
    visit(page, local(reciting(says(tiny, "# <img src=x>\n```py\n1+2"))))
    limited(page, 40)
    ask(page, "x")
    answered(page)
    answer = page.locator(".message.assistant")
    assert answer.locator("h2").inner_text() == "<img src=x>"
    assert answer.locator("img").count() == 0
    assert answer.locator("pre").inner_text() == "1+2"
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    answer.locator(".code button").click()
    api.expect(answer.locator(".code button")).to_have_text("Copied")
    assert page.evaluate("navigator.clipboard.readText()") == "1+2"


def test_the_key_is_asked_for_and_a_tool_is_called_and_answered(
    page: Any, reciting: Callable[..., Path], local: Callable[..., Any], tiny: Callable[[str], Path]
) -> None:
    server = local(reciting(says(tiny, 'get_weather\n{"city": "北京"}', OBSERVATION)), "secret")
    visit(page, server)
    for key in ("wrong", "secret"):
        api.expect(page.get_by_role("dialog")).to_be_visible()
        api.expect(page.get_by_text("This is not the key.")).to_be_visible(visible=key == "secret")
        page.get_by_label("This server asks for its API key.").fill(key)
        page.get_by_role("button", name="Use this key").click()
    api.expect(page.locator("#model")).to_have_text(server.engine.config.name)
    page.get_by_text("Settings").click()
    page.get_by_label("Tools").fill(WEATHER)
    page.get_by_label("Temperature").fill("0")
    ask(page, "北京天气?")
    answered(page)
    assert "北京" in page.locator(".message.assistant details pre").inner_text()
    page.get_by_label("Result of the tool: get_weather").fill("晴")
    page.get_by_role("button", name="Give the result").click()
    answered(page, 2)
    assert page.locator(".message.tool").count() == 1


def test_thinking_is_folded_and_not_fed_back(page: Any, endless_server: Any) -> None:
    """The stream is a double: no small model here thinks."""
    asked = []
    events = [
        '{"choices": [{"delta": {"reasoning_content": "let me see"}}]}',
        '{"choices": [{"delta": {"content": "<think>aloud</think>4"}, "finish_reason": "stop"}]}',
        "[DONE]",
    ]

    def stream(route: Any) -> None:
        asked.append(route.request.post_data_json)
        body = "".join(f"data: {event}\n\n" for event in events)
        route.fulfill(status=200, content_type="text/event-stream", body=body)

    page.route("**/v1/chat/completions", stream)
    visit(page, endless_server)
    for count in (1, 2):
        ask(page, "2+2")
        answered(page, count)
    first = page.locator(".message.assistant").first
    assert first.locator("details").get_attribute("open") is None and first.locator("> p").inner_text() == "4"
    assert [m["content"] for m in asked[1]["messages"]] == ["2+2", "4", "2+2"]


def test_what_the_server_refuses_is_said(page: Any, endless_server: Any) -> None:
    visit(page, endless_server)
    page.get_by_text("Settings").click()
    page.get_by_label("Temperature").fill("-3")
    ask(page, "x")
    answered(page)
    assert "temperature" in page.locator("[role=alert]").inner_text()
    api.expect(page.locator("[role=alert]")).to_be_in_viewport(ratio=1)


def test_a_question_beside_tools_that_are_none_stays_in_its_field(page: Any, endless_server: Any) -> None:
    visit(page, endless_server)
    page.get_by_text("Settings").click()
    page.get_by_label("Tools").fill("[1")
    page.on("dialog", lambda said: said.accept())
    ask(page, "x")
    api.expect(page.get_by_label("Tools")).to_be_focused()
    api.expect(page.get_by_label("Your message")).to_have_value("x")
    assert page.locator(".message").count() == 0 and page.evaluate("conversations[0].messages.length") == 0


def test_the_machine_shows_its_plan_its_figures_and_the_doctors_report(page: Any, endless_server: Any) -> None:
    visit(page, endless_server)
    page.get_by_role("tab", name="Chat").press("ArrowRight")
    api.expect(page.get_by_role("tab", name="Machine")).to_be_focused()
    bar = page.locator(".device .bar")
    api.expect(bar).to_have_count(1)
    assert "weights" in bar.get_attribute("aria-label") and "MiB" in page.locator(".device .notes").inner_text()
    left = page.locator("#machine h2").first.bounding_box()["x"]
    width = page.locator("#figures").bounding_box()["width"]
    assert page.locator("#examine").bounding_box()["x"] == left == (DESK["width"] - width) / 2
    api.expect(page.locator("#figure-parallel")).to_have_text(str(endless_server.engine.loop.scheduler.parallel))
    page.get_by_role("button", name="Examine this machine").click()
    api.expect(page.locator("#report .finding").first).to_be_attached(timeout=60_000)
    assert "Operating system" in page.locator("#report").text_content()


@pytest.mark.parametrize("size", [PHONE, DESK], ids=["phone", "desk"])
@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("colours", ["light", "dark"])
def test_nothing_runs_over_and_everything_has_a_name(
    page: Any, endless_server: Any, size: dict[str, int], language: str, colours: str
) -> None:
    page.set_viewport_size(size)
    page.emulate_media(color_scheme=colours)
    visit(page, endless_server)
    page.locator("#language").select_option(language)
    limited_by = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    for tab in ("#tab-chat", "#tab-machine"):
        page.locator(tab).click()
        assert page.evaluate(limited_by) <= 0
    nameless = """[...document.querySelectorAll('button, input, textarea, select')].filter(e => e.checkVisibility()
        && !(e.ariaLabel || e.textContent.trim() || e.labels?.length)).map(e => e.outerHTML)"""
    page.locator("#tab-chat").click()
    assert size != PHONE or page.locator("#list").bounding_box()["height"] < PHONE["height"] / 10
    assert page.evaluate(nameless) == []
    assert page.evaluate(CONTRAST) >= 4.5


# The contrast of quiet text with the ground, as WCAG 2 defines it.
CONTRAST = """(() => {
  const light = c => { const [r, g, b] = c.match(/\\d+/g).map(v => (v / 255 <= 0.04045 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const [a, b] = [getComputedStyle(document.querySelector('summary')).color, getComputedStyle(document.body).backgroundColor].map(light);
  return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05); })()"""  # noqa: E501


def test_the_page_is_one_file_that_may_run_its_own_script_alone(endless_server: Any) -> None:
    status, text, known = endless_server.ask("GET", "/")
    assert status == 200 and text == source()
    policy = known["content-security-policy"]
    assert policy == headers()["Content-Security-Policy"] and "unsafe" not in policy and "connect-src 'self'" in policy
    assert "innerHTML" not in text and "eval(" not in text and "https://" not in text.replace("https?://", "")


def test_the_counter_of_requests(endless_server: Any) -> None:
    before = requests(endless_server)
    endless_server.chat("x", max_tokens=1)
    assert requests(endless_server) == before + 1


def requests(server: Any) -> float:
    text = server.ask("GET", "/metrics")[1]
    [line] = [line for line in text.splitlines() if line.startswith("glmcore_requests_total ")]
    return float(line.split()[1])
