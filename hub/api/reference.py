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
<meta name="color-scheme" content="light dark">
<title>API · Vera Hub</title>
{styles}
</head>
<body>
<header class="top"><div class="frame">
<a class="brand" href="/">Vera Hub</a>
<nav aria-label="Main"><a href="/">Adapters</a> <a href="/leaderboards">Leaderboards</a> <a href="/bases">Bases</a>
<a href="/docs" aria-current="page">API docs</a></nav>
</div></header>
<main class="frame">
<div class="heading">
<h1>API <span class="tag">{version}</span></h1>
<p class="lead">JSON in and out, under <code>/api/v1</code>. Reading is open to all; the operations marked
<span class="tag">token</span> need <code>Authorization: Bearer</code> and a token. Every refusal is a <a href="#Problem">Problem</a>.
For programs there is <a href="/openapi.json">openapi.json</a>.</p>
</div>
{groups}
<section><h2>Shapes</h2>{shapes}</section>
</main>
</body>
</html>
"""


def render_reference(openapi: dict[str, Any], styles: Sequence[str]) -> str:
    """The page for this description, in the stylesheets at `styles`."""
    groups: dict[str, list[str]] = {}
    for path, operations in openapi["paths"].items():
        for method, operation in operations.items():
            groups.setdefault(operation["tags"][0], []).append(_operation(method.upper(), path, operation))
    return _PAGE.format(
        styles="\n".join(f'<link rel="stylesheet" href="{escape(url)}">' for url in styles),
        version=escape(openapi["info"]["version"]),
        groups="\n".join(_group(tag, rows) for tag, rows in groups.items()),
        shapes="".join(_fold(name, schema) for name, schema in openapi["components"]["schemas"].items()),
    )


def _group(tag: str, rows: Sequence[str]) -> str:
    head = (
        '<thead><tr><th scope="col">Operation</th><th scope="col">Takes</th><th scope="col">Answers</th></tr></thead>'
    )
    return (
        f'<section><h2>{escape(tag)}</h2><div class="scroll"><table class="list routes">'
        f'<caption class="visually-hidden">{escape(tag)}</caption>{head}<tbody>{"".join(rows)}</tbody></table></div></section>'
    )


def _operation(method: str, path: str, operation: dict[str, Any]) -> str:
    token = ' <span class="tag">token</span>' if {} not in operation["security"] else ""
    return (
        f'<tr><th scope="row"><code>{method} {escape(path)}</code>{token}'
        f'<span class="sub">{escape(operation["description"])}</span></th>'
        f"<td>{'<br>'.join(_takes(operation)) or '–'}</td><td>{'<br>'.join(_answers(operation))}</td></tr>"
    )


def _takes(operation: dict[str, Any]) -> Iterator[str]:
    query = [parameter["name"] for parameter in operation.get("parameters", []) if parameter["in"] == "query"]
    if query:
        yield f"<code>?{escape('&'.join(query))}</code>"
    for media_type, content in operation.get("requestBody", {}).get("content", {}).items():
        properties = content["schema"].get("properties")
        if properties is None:
            yield _type(content["schema"])
        else:
            yield f"{escape(media_type)}: {', '.join(_code(name) for name in properties)}"


def _answers(operation: dict[str, Any]) -> Iterator[str]:
    for status, response in operation["responses"].items():
        if status != "default":
            schemas = [content.get("schema", {}) for content in response.get("content", {}).values()]
            yield f"{escape(status)} {' '.join(_type(schema) for schema in schemas) or escape(response['description'])}"


def _fold(name: str, schema: dict[str, Any]) -> str:
    """A shape, folded: a browser opens it when a link leads to what is inside."""
    required = schema.get("required", [])
    fields = "".join(
        f'<tr><th scope="row">{_code(field)}</th><td>{_type(kind)}{"" if field in required else ", optional"}</td></tr>'
        for field, kind in schema.get("properties", {}).items()
    )
    return (
        f'<details><summary>{escape(name)}</summary><div class="scroll">'
        f'<table class="list plain" id="{escape(name)}"><caption>{escape(schema.get("description", ""))}</caption><tbody>{fields}</tbody></table></div></details>'
    )


def _type(schema: dict[str, Any]) -> str:
    """The type that a schema describes, in a few words."""
    if "$ref" in schema:
        name = escape(schema["$ref"].rpartition("/")[2])
        return f'<a href="#{name}">{name}</a>'
    if "anyOf" in schema:
        return " or ".join(_type(each) for each in schema["anyOf"])
    if "enum" in schema:
        return " | ".join(_code(str(value)) for value in schema["enum"])
    if "prefixItems" in schema:
        return f"[{', '.join(_type(each) for each in schema['prefixItems'])}]"
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}))}"
    return escape(str(schema.get("format") or schema.get("type") or "bytes"))


def _code(text: str) -> str:
    return f"<code>{escape(text)}</code>"
