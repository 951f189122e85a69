"""`/docs`: the operations of `/openapi.json` as one plain page, without a script or anything from elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from typing import Any

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>API · Vera Hub</title>
{styles}
</head>
<body>
<header class="container">
<nav aria-label="Main"><ul><li><a href="/"><strong>Vera Hub</strong></a></li></ul>
<ul><li><a href="/">Adapters</a></li><li><a href="/leaderboards">Leaderboards</a></li><li><a href="/bases">Bases</a></li></ul></nav>
</header>
<main class="container">
<h1>{title} {version}</h1>
<p>{description} For programs there is <a href="/openapi.json">openapi.json</a>.</p>
{groups}
</main>
</body>
</html>
"""


def render_reference(openapi: dict[str, Any], styles: Sequence[str]) -> str:
    """The page for this description, in the stylesheets at `styles`."""
    groups: dict[str, list[str]] = {}
    for path, operations in openapi["paths"].items():
        for method, operation in operations.items():
            tag = operation.get("tags", ["Other"])[0]
            groups.setdefault(tag, []).append(_operation(method.upper(), path, operation))
    return _PAGE.format(
        styles="\n".join(f'<link rel="stylesheet" href="{escape(url)}">' for url in styles),
        title=escape(openapi["info"]["title"]),
        version=escape(openapi["info"]["version"]),
        description=escape(openapi["info"].get("description", "")),
        groups="\n".join(f"<section><h2>{escape(tag)}</h2>{''.join(each)}</section>" for tag, each in groups.items()),
    )


def _operation(method: str, path: str, operation: dict[str, Any]) -> str:
    facts = "".join(f"<dt>{escape(name)}</dt><dd>{text}</dd>" for name, text in _facts(operation))
    return (
        f"<article><h3><code>{method} {escape(path)}</code></h3>"
        f"<p>{escape(operation.get('description', ''))}</p><dl>{facts}</dl></article>"
    )


def _facts(operation: dict[str, Any]) -> Iterator[tuple[str, str]]:
    if "security" in operation:
        yield "Token", "needed, as <code>Authorization: Bearer</code>"
    parameters = [p for p in operation.get("parameters", []) if p["in"] == "query"]
    if parameters:
        yield "Query", ", ".join(f"<code>{escape(p['name'])}</code>" for p in parameters)
    for media_type, content in operation.get("requestBody", {}).get("content", {}).items():
        yield "Body", f"<code>{escape(media_type)}</code> {_shape(content)}"
    for status, response in operation["responses"].items():
        for content in response.get("content", {}).values():
            if status != "default":
                yield f"Answer {escape(status)}", _shape(content)


def _shape(content: dict[str, Any]) -> str:
    schema = content.get("schema", {})
    if "$ref" in schema:
        return f"<code>{escape(schema['$ref'].rpartition('/')[2])}</code>"
    names = ", ".join(f"<code>{escape(name)}</code>" for name in schema.get("properties", {}))
    return f"with {names}" if names else ""
