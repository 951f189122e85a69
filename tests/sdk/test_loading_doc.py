"""docs/loading.md names every error that a user can meet when loading, and none that is not there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "loading.md").read_text()

# What no load goes through; a new module is on the way until it is named here.
ELSEWHERE = {
    "sdk": {"exporting", "housekeeping", "provenance", "pushing", "signatures"},
    "sdk/client": set(),
    "vera": {
        "adapter_difference",
        "attestation",
        "gating",
        "metrics",
        "peft_checkpoint",
        "peft_import",
        "possession",
        "peft_matrices",
        "peft_modules",
        "signing",
    },
    "vera/nn": {"card", "experiment", "exporting", "packaging", "peft_form"},
}
MODULES = [
    path
    for folder, elsewhere in ELSEWHERE.items()
    for path in sorted((ROOT / folder).glob("*.py"))
    if path.stem not in elsewhere
]
# Of workers, of what they sign, of suites and of training data.
NOT_OF_LOADING = {
    "LEASE_EXPIRED",
    "RESULT_DUPLICATE",
    "SUITE_INVALID",
    "DATA_INVALID",
    "SIGNATURE_INVALID",
    "QUANTIZATION_UNAVAILABLE",
}
# Said by a hub, as docs/api.md has them.
OF_THE_HUB = {
    "ADAPTER_MOVED",
    "ADAPTER_UNKNOWN",
    "VERSION_UNKNOWN",
    "VERSION_DELETED",
    "BLOB_UNKNOWN",
    "BASE_UNKNOWN",
    "TOKEN_MISSING",
    "HUB_BUSY",
}
CODE = re.compile(r"[A-Z]+(?:_[A-Z]+)*")


def codes_of(module: Path) -> set[str]:
    """Every code the module raises: what is given as `code`, stands as a class's `code`, or is passed to a helper
    that raises, which is any other constant that looks like one."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.keyword) and node.arg == "code":
            found |= constants_in(node.value)
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "code" for t in node.targets):
            found |= constants_in(node.value)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id.startswith("_"):
            found |= {code for argument in node.args for code in constants_in(argument) if "_" in code}
    return {code for code in found if not code.startswith("VERA_HUB_")}


def constants_in(node: ast.AST) -> set[str]:
    strings = {n.value for n in ast.walk(node) if isinstance(n, ast.Constant) and isinstance(n.value, str)}
    return {string for string in strings if CODE.fullmatch(string) and len(string) > 3}


def in_page() -> set[str]:
    return {
        code
        for line in PAGE.splitlines()
        if line.startswith("| `")
        for code in re.findall(r"`([A-Z_]{4,})`", line.split("|")[1])
    }


def test_every_code_of_the_load_path_is_in_the_page() -> None:
    raised = set().union(*(codes_of(module) for module in MODULES)) - NOT_OF_LOADING

    assert len(raised) > 60
    assert raised - in_page() == set()


def test_every_code_in_the_page_exists() -> None:
    everywhere = [*(ROOT / "sdk").glob("*.py"), *(ROOT / "sdk" / "client").glob("*.py"), *(ROOT / "vera").rglob("*.py")]
    raised = set().union(*(codes_of(module) for module in everywhere))
    api = (ROOT / "docs" / "api.md").read_text()

    assert {code for code in OF_THE_HUB if code not in api} == set()
    assert in_page() - raised - OF_THE_HUB == set()
