"""The pages in Chromium: readable, harmless and at home on a phone."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
import uvicorn
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from tests import chromium
from tests.hub.web.seeding import SeededHub

EXECUTABLE = chromium.find()
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(EXECUTABLE is None, reason="Chromium is not installed: tests/chromium.py says why"),
]
DESKTOP = {"width": 1280, "height": 800}
PHONE = {"width": 390, "height": 844}
START_S = 20

# Every text must stand out from what is behind it by 4.5 to 1, or 3 to 1 when large (WCAG 2, 1.4.3).
CONTRAST = """() => {
  const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
  const rgba = colour => {
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const luminance = colour => {
    const [r, g, b] = colour.map(c => c / 255).map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = element => {
    for (let each = element; each; each = each.parentElement) {
      const colour = rgba(getComputedStyle(each).backgroundColor);
      if (colour[3] === 255) return colour;
    }
    return [255, 255, 255, 255];
  };
  const poor = [];
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const element = texts.currentNode.parentElement, text = texts.currentNode.textContent.trim();
    if (!text || !element.checkVisibility() || element.closest("svg, datalist, .visually-hidden, .skip")) continue;
    const style = getComputedStyle(element);
    const [one, two] = [rgba(style.color), behind(element)].map(luminance).sort((a, b) => b - a);
    const size = parseFloat(style.fontSize), bold = style.fontWeight >= 700;
    const needed = size >= 24 || (bold && size >= 18.7) ? 3 : 4.5;
    const ratio = (one + 0.05) / (two + 0.05);
    if (ratio < needed) poor.push(`${ratio.toFixed(2)}: ${text.slice(0, 40)}`);
  }
  return poor;
}"""

# What a screen reader needs: one h1, no level skipped, names on everything that can be operated.
STRUCTURE = """() => {
  const wrong = [];
  const levels = [...document.querySelectorAll("h1, h2, h3, h4, h5, h6")].map(h => Number(h.tagName[1]));
  if (levels.filter(level => level === 1).length !== 1) wrong.push("not one h1");
  levels.reduce((before, level) => { if (level > before + 1) wrong.push(`h${before} then h${level}`); return level; }, 0);
  for (const field of document.querySelectorAll("input:not([type=hidden]), select"))
    if (!field.labels.length) wrong.push(`no label: ${field.name}`);
  for (const each of document.querySelectorAll("a, button, summary"))
    if (!(each.getAttribute("aria-label") || each.textContent.trim())) wrong.push(`no name: ${each.outerHTML}`);
  for (const image of document.querySelectorAll("img")) if (!image.hasAttribute("alt")) wrong.push("no alt");
  for (const table of document.querySelectorAll("table"))
    if (!table.caption && !table.closest(".card")) wrong.push("no caption");
  return wrong;
}"""

# Names that the columns of a table leave so little room that they stand in pieces, one below the other.
CRAMPED = """() => [...document.querySelectorAll(".list th code")]
  .filter(name => name.checkVisibility() && name.clientHeight > 3.5 * parseFloat(getComputedStyle(name).fontSize) * 1.5).map(name => name.textContent)"""


@dataclass
class Visitor:
    """A browser window that remembers what went wrong in it."""

    page: Page
    origin: str
    complaints: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.on("console", lambda message: self.complaints.append(f"{message.type}: {message.text}"))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self._note(request.url))

    def visit(self, path: str) -> Page:
        self.page.goto(self.origin + path)
        return self.page

    def _note(self, url: str) -> None:
        if not url.startswith((self.origin, "data:")):
            self.complaints.append(f"asked for {url}")


@pytest.fixture(scope="session")
def origin(hub: SeededHub) -> Iterator[str]:
    """The filled hub, on a port of its own."""
    # The hub's own client runs its lifespan: this server only lends it a socket.
    server = uvicorn.Server(uvicorn.Config(hub.app, host="127.0.0.1", port=0, lifespan="off", log_config=None))
    thread = threading.Thread(target=server.run)
    thread.start()
    deadline = time.monotonic() + START_S
    while not server.started:
        assert thread.is_alive(), "the server ended before it was ready"
        assert time.monotonic() < deadline, f"the server was not ready in {START_S} s"
        time.sleep(0.02)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Gone with this file: while it is there, an event loop runs in the thread of the tests, and asyncio.run refuses."""
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=EXECUTABLE, args=list(chromium.FLAGS))
        yield launched
        launched.close()


@pytest.fixture
def context(browser: Browser, request: pytest.FixtureRequest) -> Iterator[BrowserContext]:
    opened = browser.new_context(**getattr(request, "param", {}))
    opened.set_default_timeout(10_000)
    yield opened
    opened.close()


@pytest.fixture
def visitor(context: BrowserContext, origin: str) -> Visitor:
    return Visitor(context.new_page(), origin)


@pytest.fixture
def moved_alias(hub: SeededHub) -> Iterator[None]:
    """An alias that has a history, taken away again: the other tests read the same hub."""
    production = "/api/v1/adapters/demo/topics/aliases/production"
    for version in ("v1", "v2"):
        hub.client.put(production, json={"version": version}, headers=hub.user).raise_for_status()
    yield
    hub.client.delete(production, headers=hub.user).raise_for_status()


def paths(hub: SeededHub) -> list[str]:
    return [
        "/",
        "/?search=nothing-like-it",
        "/demo/topics",
        "/demo/topics/v1",
        "/demo/weak/v1/diff?against=demo/topics@v1",
        "/demo/broken",
        "/demo/patient",
        "/demo/topics/aliases/production",
        "/leaderboards",
        "/leaderboards/demo/topics",
        "/bases",
        f"/bases/{hub.base.value}",
        "/docs",
    ]


@pytest.mark.parametrize(
    "context",
    [
        {"viewport": DESKTOP, "color_scheme": "light"},
        {"viewport": DESKTOP, "color_scheme": "dark"},
        {"viewport": PHONE, "color_scheme": "light"},
        {"viewport": PHONE, "color_scheme": "dark"},
    ],
    ids=["desktop-light", "desktop-dark", "phone-light", "phone-dark"],
    indirect=True,
)
@pytest.mark.usefixtures("moved_alias")
def test_every_page_is_readable_and_fits(hub: SeededHub, visitor: Visitor) -> None:
    for path in paths(hub):
        page = visitor.visit(path)
        assert page.evaluate(CONTRAST) == [], path
        assert page.evaluate(STRUCTURE) == [], path
        assert page.evaluate(CRAMPED) == [], path
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), path
        assert "Vera Hub" in page.title()
    assert visitor.complaints == []


@pytest.mark.parametrize(
    "context",
    [{"viewport": DESKTOP, "color_scheme": "light"}, {"viewport": PHONE, "color_scheme": "dark"}],
    ids=["desktop-light", "phone-dark"],
    indirect=True,
)
def test_one_signs_in_and_every_page_of_ones_own_is_readable(hub: SeededHub, visitor: Visitor) -> None:
    page = visitor.visit("/settings")
    assert page.evaluate(STRUCTURE) == []
    assert page.evaluate(CONTRAST) == []
    page.get_by_label("The code an admin gave you").fill(hub.user["Authorization"].removeprefix("Bearer "))
    page.get_by_role("button", name="Sign in").last.click()
    page.get_by_role("heading", name="demo", level=1).wait_for()
    name = f"org-{page.viewport_size['width']}"  # type: ignore[index]  # every window here has a size
    page.get_by_label("Name of a new one").fill(name)
    page.get_by_role("button", name="Found it").click()
    page.get_by_role("heading", name=name).wait_for()
    own = [trust_a_workflow(visitor, name), add_a_webhook(visitor, name)]
    shared = ("organisations", "webhooks")
    for path in ("/settings", "/settings/audit/demo", *(f"/settings/{each}/{name}" for each in shared), *own):
        page = visitor.visit(path)
        assert page.evaluate(CONTRAST) == [], path
        assert page.evaluate(STRUCTURE) == [], path
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), path
    page = visitor.visit("/settings")
    page.get_by_label("Name", exact=True).fill("ci")
    page.get_by_role("button", name="Make it").click()
    page.get_by_text("ci is made").wait_for()
    page.get_by_role("button", name="Sign out").click()
    page.get_by_role("link", name="Sign in").wait_for()
    assert visitor.complaints == []


def trust_a_workflow(visitor: Visitor, namespace: str) -> str:
    """The page of its publishers, with one whose names are long."""
    page = visitor.visit(f"/settings/publishers/{namespace}")
    page.get_by_label("Repository").fill("octo/" + "long-" * 20)
    page.get_by_label("Its number").fill("1" * 40)
    page.get_by_label("Its owner’s number").fill("45")
    page.get_by_label("Workflow’s file").fill("train.yml")
    page.get_by_role("button", name="Trust it").click()
    page.get_by_text("may push new versions").wait_for()
    return f"/settings/publishers/{namespace}"


def add_a_webhook(visitor: Visitor, namespace: str) -> str:
    """The page of a webhook with a long address, to which one message could not be sent."""
    page = visitor.visit(f"/settings/webhooks/{namespace}")
    page.get_by_label("Address").fill("http://127.0.0.1:1/" + "long-" * 20)
    page.get_by_role("button", name="Add it").click()
    page.get_by_text("shown this once").wait_for()
    page.get_by_text("Its body").click()
    path: str = page.get_by_role("button", name="Make another secret").evaluate("button => button.form.action")
    return path.removeprefix(visitor.origin).removesuffix("/secret")


@pytest.mark.parametrize("path", ["/demo/topics", "/demo/topics/v2"])
def test_a_hostile_card_does_nothing(visitor: Visitor, path: str) -> None:
    page = visitor.visit(path)
    for link in page.locator(".card a").all():
        assert (link.get_attribute("href") or "").startswith("https://")
    page.locator(".card a").first.hover()
    assert page.evaluate("window.ran") is None
    assert page.locator(".card :is(script, style, img, svg, iframe, form, button)").count() == 0
    assert page.locator("h1").is_visible()
    assert visitor.complaints == []


def test_a_line_is_copied(context: BrowserContext, visitor: Visitor) -> None:
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    page = visitor.visit("/demo/topics")
    page.get_by_role("button", name="Copy: vera-hub pull demo/topics@v2").click()
    page.get_by_text("Copied").wait_for()
    assert page.evaluate("navigator.clipboard.readText()") == "vera-hub pull demo/topics@v2"
    assert visitor.complaints == []


@pytest.mark.parametrize("context", [{"java_script_enabled": False}], ids=["no-script"], indirect=True)
def test_everything_works_without_javascript(visitor: Visitor) -> None:
    page = visitor.visit("/")
    page.get_by_label("Search").fill("topics")
    page.get_by_role("button", name="Search").click()
    page.get_by_role("link", name="demo/topics", exact=True).first.click()
    page.get_by_text("Adapted modules (2)").click()
    assert page.get_by_text("encoder.layer.0.intermediate.dense").is_visible()
    page.get_by_role("link", name="Leaderboards").click()
    page.locator("table").get_by_role("link", name="demo/topics").click()
    assert page.get_by_role("heading", level=1).inner_text() == "demo/topics"


def test_the_keyboard_reaches_the_content_first(visitor: Visitor) -> None:
    page = visitor.visit("/leaderboards")
    page.keyboard.press("Tab")
    skip = page.get_by_role("link", name="Skip to the content")
    assert page.evaluate("document.activeElement.textContent") == skip.inner_text()
    assert skip.evaluate("each => each.getBoundingClientRect().left >= 0")
    assert skip.evaluate("each => getComputedStyle(each).outlineStyle") == "solid"


def test_an_unknown_address_is_a_page_of_the_hub(visitor: Visitor) -> None:
    page = visitor.visit("/nobody/nothing")
    page.get_by_role("link", name="All adapters").click()
    assert page.get_by_role("heading", level=1).inner_text() == "Adapters"
