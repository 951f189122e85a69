"""What a visitor reads on each page, without a browser."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from itertools import islice, product
from urllib.parse import urlencode

import pytest

from hub.web.pages import with_code
from tests.builders import BASE_NAME, make_archive, make_base
from tests.hub.web.seeding import BROWSER, SUITE, SeededHub
from vera.fingerprint import BaseFingerprint

PAGES = (
    "/",
    "/?search=top&owner=demo",
    "/?search=nothing-like-it",
    "/demo/topics",
    "/demo/topics/v1",
    "/demo/plain",
    "/demo/broken",
    "/demo/busy",
    "/demo/patient",
    "/leaderboards",
    "/leaderboards/demo/topics",
    "/bases",
    "/bases/{fingerprint}",
    "/bases/{fingerprint}?tensor=dense+f32",
    "/bases/{fingerprint}?tensor=nowhere",
)


class Reader(HTMLParser):
    """Collects what a page says (`text`) and its elements as (tag, attributes)."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self._said: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self._said.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self._said).split())

    def values(self, attribute: str) -> list[str]:
        return [value for _, attributes in self.elements if (value := attributes.get(attribute)) is not None]


def read(hub: SeededHub, path: str) -> Reader:
    return Reader(hub.get(path.format(fingerprint=hub.base.value)))


def row_of(html: str, link: str) -> str:
    """The text of the table row that holds the link to `link`."""
    rows = [row for row in re.findall(r"<tr.*?</tr>", html, re.DOTALL) if f'href="{link}"' in row]
    assert len(rows) == 1, f"{len(rows)} rows link to {link}"
    return Reader(rows[0]).text


# -- the list of adapters -------------------------------------------------------------------------


def test_an_adapter_is_listed_with_its_version_base_task_size_and_score(hub: SeededHub) -> None:
    row = row_of(hub.get("/"), "/demo/topics")
    # Vectors: (12 + 8) + (20 + 8) floats; LoRA r=8: 4 * 8 * (12 + 12 + 12 + 20) bytes.
    for said in ("v2", BASE_NAME, "text-classification, 2 labels", "192 B", "9.3× smaller", "0.875", SUITE):
        assert said in row


def test_an_adapter_without_a_score_says_so(hub: SeededHub) -> None:
    assert "not scored" in row_of(hub.get("/"), "/demo/plain")


@pytest.mark.parametrize(
    ("narrowed", "shown"),
    [
        ("search=TOPics", {"topics"}),
        ("search=demo/pat", {"patient"}),
        ("search=%25", set()),
        ("task=text-classification&search=p", {"topics", "patient"}),
        ("owner=somebody-else", set()),
        ("base={fingerprint}&search=weak", {"weak"}),
    ],
)
def test_the_list_is_narrowed_down(hub: SeededHub, narrowed: str, shown: set[str]) -> None:
    page = read(hub, f"/?{narrowed}")
    assert {link for link in page.values("href") if link.startswith("/demo/")} == {f"/demo/{name}" for name in shown}
    assert ("No adapter fits" in page.text) == (not shown)


def test_a_search_stays_in_its_field(hub: SeededHub) -> None:
    page = read(hub, "/?search=<b>top</b>&task=text-classification&base={fingerprint}")
    assert {"<b>top</b>", "text-classification"} <= set(page.values("value"))
    assert hub.base.value in page.values("value")


def test_an_empty_hub_tells_a_newcomer_what_to_do(new_hub: SeededHub) -> None:
    page = read(new_hub, "/")
    assert "vera-hub base add" in page.text
    assert "vera-hub push my-adapter" in page.text
    assert "vera-hub worker" in read(new_hub, "/leaderboards").text
    assert "vera-hub base add" in read(new_hub, "/bases").text


def test_a_long_list_goes_on_at_the_next_page(new_hub: SeededHub) -> None:
    new_hub.register_base()
    for number, letters in enumerate(islice(product("abcdef", repeat=2), 26)):  # no two look alike
        new_hub.push(f"adapter-{''.join(letters)}", make_archive(seed=number))
    first = read(new_hub, "/?owner=demo")
    (further,) = [link for link in first.values("href") if "cursor=" in link]
    second = read(new_hub, further)
    listed = [link for page in (first, second) for link in page.values("href") if link.startswith("/demo/adapter-")]
    assert len(listed) == len(set(listed)) == 26
    assert "/?owner=demo" in second.values("href")  # the way back
    assert not [link for link in second.values("href") if "cursor=" in link]


# -- an adapter -----------------------------------------------------------------------------------


def test_an_adapter_says_how_to_use_it(hub: SeededHub) -> None:
    page = read(hub, "/demo/topics")
    assert 'sdk.load(base, "demo/topics@v2")' in page.text
    assert "vera-hub pull demo/topics@v2" in page.text


def test_an_adapter_shows_what_a_load_proves(hub: SeededHub) -> None:
    version = hub.client.get("/api/v1/adapters/demo/topics/versions/v2").json()
    projection = version["manifest"]["projection"]
    page = read(hub, "/demo/topics")
    for proof in (
        hub.base.value,
        projection["digest"],
        version["digest"],
        version["weights_digest"],
        version["commit"],
    ):
        assert proof in page.text
    assert "peft-mt19937/1, seed 0, A 8 × 12, B 20 × 8, float32" in page.text


def test_an_adapter_shows_its_sizes_apart(hub: SeededHub) -> None:
    text = read(hub, "/demo/topics").text
    for said in (
        "192 B 9.3× smaller than LoRA r=8",
        "LoRA r=8 1.8 KiB",
        "Task head 104 B",
        "48 learned numbers on 2 modules",
    ):
        assert said in text


def test_an_adapter_without_a_head_says_none(hub: SeededHub) -> None:
    assert "Task head none" in read(hub, "/demo/plain").text


def test_versions_are_listed_and_an_old_one_points_to_the_latest(hub: SeededHub) -> None:
    latest, old = hub.get("/demo/topics"), hub.get("/demo/topics/v1")
    assert "this page" in row_of(latest, "/demo/topics/v2")
    assert "twice the <b>epochs</b>" in row_of(latest, "/demo/topics/v2")  # text, not markup
    assert "this page" in row_of(old, "/demo/topics/v1")
    assert "The latest version is demo/topics@v2" in Reader(old).text
    assert "A later version" not in Reader(latest).text
    assert 'sdk.load(base, "demo/topics@v1")' in Reader(old).text


def test_a_reference_is_an_address(hub: SeededHub) -> None:
    assert 'sdk.load(base, "demo/topics@v1")' in read(hub, "/demo/topics@v1").text


def test_training_is_summarised(hub: SeededHub) -> None:
    text = read(hub, "/demo/topics/v1").text
    assert "epochs 3" in text
    assert "by <hash>" in text


@pytest.mark.parametrize(
    ("adapter", "said"),
    [
        ("topics", "0.875 0.529 – 0.978"),  # Wilson, 7 of 8
        ("broken", "Failed ADAPTER_BROKEN: its <head> is of another size Tried once."),
        ("busy", "Running On bench since"),
        ("patient", "Waiting Number 1 in the queue."),
        ("plain", "nothing scores it by itself"),
    ],
)
def test_every_state_of_an_evaluation_is_told(hub: SeededHub, adapter: str, said: str) -> None:
    assert said in read(hub, f"/demo/{adapter}").text


# -- leaderboards ---------------------------------------------------------------------------------


def test_a_board_ranks_versions_and_marks_ties(hub: SeededHub) -> None:
    html = hub.get("/leaderboards/demo/topics")
    order = re.findall(r'href="(/demo/[^"]+/v\d+)"', html)
    assert order == ["/demo/topics/v2", "/demo/topics/v1", "/demo/weak/v1"]
    tied = [", tied with the best" in row_of(html, link) for link in order]
    assert tied == [True, True, False]  # 7 against 6 of 8 is chance; 7 against none is not
    assert "0.750 0.409 – 0.929" in row_of(html, order[1])
    assert row_of(html, order[2]).startswith("3 ")


def test_a_board_draws_intervals_and_the_majority_on_one_axis(hub: SeededHub) -> None:
    html = hub.get("/leaderboards/demo/topics")
    drawn = re.findall(r'<rect class="range" x="([\d.]+)%" y="[\d.]+" width="([\d.]+)%"', html)
    assert len(drawn) == 3
    assert all(float(x) >= 0 and float(x) + float(width) <= 100 for x, width in drawn)
    majority = set(re.findall(r'<line class="baseline" x1="([\d.]+)%" x2="\1%" y1="0" y2="17"/>\s*<rect', html))
    assert majority == {"50.00"}  # from 0 to 1


def test_a_board_says_what_its_suite_is(hub: SeededHub) -> None:
    text = read(hub, "/leaderboards/demo/topics").text
    digest = hub.client.get("/api/v1/suites/demo/topics").json()["digest"]
    for said in (
        "Which <topic> is it?",
        "Metric Accuracy",
        "Items 8",
        "Labels 2",
        "Majority class 0.500",
        digest,
        '"split": "held-out"',
    ):
        assert said in text


def test_a_board_is_narrowed_down_to_a_base(hub: SeededHub) -> None:
    narrowed = read(hub, "/leaderboards/demo/topics?base={fingerprint}")
    assert "/demo/topics/v2" in narrowed.values("href")
    other = read(hub, "/leaderboards/demo/topics?base=vbf1:0")
    assert "Nothing of this base is scored yet" in other.text


def test_a_board_without_scores_says_how_to_get_one(new_hub: SeededHub) -> None:
    new_hub.register_suite()
    assert f"vera-hub eval my-adapter@v1 --suite {SUITE} --wait" in read(new_hub, "/leaderboards/demo/topics").text
    assert "/leaderboards/demo/topics" in read(new_hub, "/leaderboards").values("href")


# -- bases ----------------------------------------------------------------------------------------


def test_a_base_shows_its_fingerprint_and_tensors(hub: SeededHub) -> None:
    assert f"/bases/{hub.base.value}" in read(hub, "/bases").values("href")
    page = read(hub, "/bases/{fingerprint}")
    assert hub.base.value in page.text
    for tensor in hub.base.tensors:
        assert tensor.name in page.text
        assert tensor.sha256 in page.values("title")
    assert "20 × 12" in page.text


def test_the_tensors_of_a_base_are_found_by_name_type_and_hash(hub: SeededHub) -> None:
    wanted = hub.base.tensors[0]
    for search in (wanted.name.upper(), f"{wanted.name[2:]} {wanted.dtype}", wanted.sha256[:12]):
        page = read(hub, f"/bases/{{fingerprint}}?{urlencode({'tensor': search})}")
        found = [tensor.name for tensor in hub.base.tensors if tensor.sha256 in page.values("title")]
        assert found == [wanted.name]
        assert ("input", "search") in {(tag, attributes.get("type")) for tag, attributes in page.elements}
    assert "No tensor like that" in read(hub, "/bases/{fingerprint}?tensor=nowhere").text
    assert f"/api/v1/bases/{hub.base.value}" in page.values("href")


def test_a_long_table_is_cut_and_says_so(new_hub: SeededHub) -> None:
    base = BaseFingerprint.from_rows([[f"w{i:04}", "F32", [1], f"{i:064x}"] for i in range(1001)])
    new_hub.register_base(base)
    page = read(new_hub, f"/bases/{base.value}")
    shown = {tensor.name for tensor in base.tensors if tensor.sha256 in page.values("title")}
    assert shown == {f"w{i:04}" for i in range(1000)}
    assert "the first 1,000 of them" in page.text


def test_names_from_strangers_are_text(new_hub: SeededHub) -> None:
    name = '<img src=x onerror=alert(1)> & "co"'
    new_hub.register_base(make_base(), name=name)
    for path in ("/bases", f"/bases/{new_hub.base.value}"):
        page = read(new_hub, path)
        assert name in page.text
        assert "onerror" not in {attribute for _, attributes in page.elements for attribute in attributes}


# -- every page -----------------------------------------------------------------------------------


@pytest.mark.parametrize("path", PAGES)
def test_every_page_is_well_made(hub: SeededHub, path: str) -> None:
    page = read(hub, path)
    tags = [tag for tag, _ in page.elements]
    assert tags.count("h1") == tags.count("main") == tags.count("title") == 1
    identifiers = page.values("id")
    assert len(identifiers) == len(set(identifiers))
    assert set(" ".join(page.values("aria-labelledby")).split()) <= set(identifiers)
    assert all("scope" in attributes for tag, attributes in page.elements if tag == "th" and not in_card(page))
    assert tags.count("caption") >= tags.count("table") - in_card(page)
    assert ("html", {"lang": "en"}) in page.elements


@pytest.mark.parametrize("path", PAGES)
def test_every_page_loads_only_from_the_hub_and_has_no_inline_style_or_script(hub: SeededHub, path: str) -> None:
    page = read(hub, path)
    links = [each for tag, each in page.elements if tag == "link" and each["rel"] != "alternate"]
    loaded = [*page.values("src"), *(each["href"] for each in links)]
    assert loaded
    assert all(address is not None and address.startswith("/static/") for address in loaded)
    names = {attribute for _, attributes in page.elements for attribute in attributes}
    assert not [name for name in names if name == "style" or name.startswith("on")]
    assert "style" not in {tag for tag, _ in page.elements}


@pytest.mark.parametrize("path", [*PAGES, "/nobody/nothing"])
def test_every_page_is_locked_down(hub: SeededHub, path: str) -> None:
    headers = hub.client.get(path.format(fingerprint=hub.base.value), headers=BROWSER).headers
    assert headers["content-security-policy"] == (
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; "
        "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    )
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "same-origin", "else forms are sent from the origin null"


@pytest.mark.parametrize("path", PAGES)
def test_a_head_request_is_answered_like_the_page(hub: SeededHub, path: str) -> None:
    answer = hub.client.head(path.format(fingerprint=hub.base.value), headers=BROWSER)
    assert (answer.status_code, answer.content) == (200, b"")


def in_card(page: Reader) -> bool:
    """True when the page shows a card, whose tables are its author's."""
    return "card" in page.values("class")


# -- static files ---------------------------------------------------------------------------------


def test_static_files_may_be_kept_for_ever(hub: SeededHub) -> None:
    page = read(hub, "/")
    addresses = {address for address in (*page.values("src"), *page.values("href")) if address.startswith("/static/")}
    assert {address.partition("?")[0].rpartition(".")[2] for address in addresses} == {"css", "js", "svg"}
    for address in addresses:
        answer = hub.client.get(address)
        assert answer.status_code == 200
        assert "immutable" in answer.headers["cache-control"]
        assert answer.headers["x-content-type-options"] == "nosniff"


def test_a_browser_finds_the_icon_by_itself(hub: SeededHub) -> None:
    assert hub.client.get("/favicon.ico").headers["content-type"] == "image/svg+xml"


@pytest.mark.parametrize(
    "name", ["nothing.css", "pico.LICENSE.md", "..%2froutes.py", "%2e%2e/routes.py", "../routes.py"]
)
def test_nothing_else_is_served(hub: SeededHub, name: str) -> None:
    assert hub.client.get(f"/static/{name}").status_code == 404


# -- what is not there ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    ["/nobody/nothing", "/demo/topics/v9", "/demo/topics/v0", "/demo/topics/vx", "/Demo/Topics", "/demo/topics@v9", "/static/x",
     "/leaderboards/no/suite", "/leaderboards/none", "/bases/vbf1:00", "/a/b/c/d", "/nowhere", "/demo/to%00pics"],
)  # fmt: skip
def test_what_is_not_there_is_a_calm_page(hub: SeededHub, path: str) -> None:
    answer = hub.client.get(path, headers=BROWSER)
    page = Reader(answer.text)
    assert answer.status_code in (400, 404)
    if answer.status_code == 404:
        assert "There is nothing here" in page.text
        assert answer.headers["x-request-id"] in page.text
        assert "/leaderboards" in page.values("href")


def test_a_command_in_a_sentence_is_shown_as_one(hub: SeededHub) -> None:
    answer = hub.client.get("/nobody/nothing", headers=BROWSER)
    assert "<code>vera-hub list</code>" in answer.text
    assert "`" not in Reader(answer.text).text
    assert with_code("`<b>` & <i>") == "<code>&lt;b&gt;</code> &amp; &lt;i&gt;"


def test_a_broken_cursor_is_explained(hub: SeededHub) -> None:
    answer = hub.client.get("/?cursor=made-up", headers=BROWSER)
    assert answer.status_code == 422
    assert "begin at the first page" in Reader(answer.text).text


@pytest.mark.parametrize("path", ["/nobody/nothing", "/api/v1/adapters/nobody/nothing"])
def test_programs_get_a_problem_and_not_a_page(hub: SeededHub, path: str) -> None:
    answer = hub.client.get(path)
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"


def test_the_api_answers_a_browser_with_a_problem_too(hub: SeededHub) -> None:
    answer = hub.client.get("/api/v1/adapters/nobody/nothing", headers=BROWSER)
    assert answer.headers["content-type"] == "application/problem+json"
