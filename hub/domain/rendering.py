"""The card: Markdown from a stranger, made into HTML that a page may show."""

from __future__ import annotations

import re
from functools import cache

import nh3
from markdown_it import MarkdownIt
from markdown_it.token import Token

from hub.domain.cards import MAX_RENDERED

_TAGS = {
    "a", "blockquote", "br", "code", "del", "em", "h2", "h3", "h4", "h5", "h6", "hr", "li", "ol", "p", "pre",
    "s", "strong", "table", "tbody", "td", "th", "thead", "tr", "ul",
}  # fmt: skip
_ATTRIBUTES = {"a": {"href", "title"}, "ol": {"start"}}
_SCHEMES = {"http", "https", "mailto"}
# Cards written for other hubs begin with a block of YAML for machines.
_FRONT_MATTER = re.compile(r"\A---\r?\n.*?^---[ \t]*\r?$\n?", re.DOTALL | re.MULTILINE)


def render_card(markdown: str) -> str:
    """Sanitised HTML of the card: no scripts, styles, images or raw HTML; headings begin at h2.

    Only the first MAX_RENDERED characters are shown.
    """
    text = _FRONT_MATTER.sub("", markdown[:MAX_RENDERED], count=1)
    parser = _parser()
    tokens = parser.parse(text)
    html = parser.renderer.render([_below_title(token) for token in tokens], parser.options, {})
    return nh3.clean(
        str(html), tags=_TAGS, attributes=_ATTRIBUTES, url_schemes=_SCHEMES, link_rel="nofollow noopener noreferrer"
    )


@cache
def _parser() -> MarkdownIt:
    """Made once, which takes longer than most cards. It puts its rules in order when it first parses, and must have
    done so before a second thread has it."""
    parser = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])
    parser.parse("ready")
    return parser


def _below_title(token: Token) -> Token:
    """Headings one level down: the page that shows the card has its own h1."""
    if token.type in ("heading_open", "heading_close"):
        token.tag = f"h{min(6, int(token.tag[1]) + 1)}"
    return token
