"""Pictures of a running hub's pages: `python tests/screenshots.py http://127.0.0.1:8000 docs/images`.

Takes the adapter list, the page of the adapter that leads the first leaderboard (or else of the
first adapter listed) and that leaderboard, each in light and dark.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import chromium  # beside this file
from playwright.sync_api import Browser, Page, sync_playwright

VIEWPORT = {"width": 1280, "height": 720}
SCHEMES = ("light", "dark")


def main() -> int:
    if len(sys.argv) != 3:
        print("Usage: python tests/screenshots.py URL OUTDIR", file=sys.stderr)
        return 2
    url, folder = sys.argv[1].rstrip("/"), Path(sys.argv[2])
    executable = chromium.find()
    if executable is None:
        print("There is no Chromium here: `python tests/chromium.py` says why.", file=sys.stderr)
        return 1
    folder.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=list(chromium.FLAGS))
        for picture in pictures(browser, url, folder):
            print(picture)
    return 0


def pictures(browser: Browser, url: str, folder: Path) -> Iterator[Path]:
    """Takes each picture, giving its path when it is written."""
    for scheme in SCHEMES:
        context = browser.new_context(viewport=VIEWPORT, color_scheme=scheme, device_scale_factor=2)  # type: ignore[arg-type]  # the two are literals
        page = context.new_page()
        for name, path in addresses(page, url).items():
            page.goto(url + path)
            picture = folder / f"{name}-{scheme}.png"
            page.screenshot(path=picture, full_page=True)
            yield picture
        context.close()


def addresses(page: Page, url: str) -> dict[str, str]:
    """The pages to take, by the name of their picture. Those of an empty hub are left out."""
    found = {"adapters": "/"}
    board = first_link(page, f"{url}/leaderboards", r"/leaderboards/[^/]+/[^/]+")
    if board:
        found["leaderboard"] = board
    adapter = board and first_link(page, url + board, r"/[^/]+/[^/]+/v[0-9]+")
    adapter = adapter or first_link(page, f"{url}/", r"/(?!leaderboards|bases|docs|static)[^/]+/[^/]+")
    if adapter:
        found["adapter"] = adapter
    return found


def first_link(page: Page, url: str, pattern: str) -> str | None:
    """The first address in the tables of the page at `url` that is all of `pattern`."""
    page.goto(url)
    links = page.locator("table th a").evaluate_all("links => links.map(link => link.getAttribute('href'))")
    return next((link for link in links if re.fullmatch(pattern, link)), None)


if __name__ == "__main__":
    sys.exit(main())
