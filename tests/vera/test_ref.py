"""References: what a user may write, what it means, and that it prints as it reads."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vera.errors import RefError
from vera.ref import (
    MAX_ID_OCTETS,
    RESERVED_NAMESPACES,
    AdapterRef,
    SelectorKind,
    check_adapter_id,
    check_namespace,
    fold_name,
    kind_of_selector,
)

HEX = "0123456789abcdef" * 4
DIGEST = f"sha256:{HEX}"
COMMIT = HEX[:40]

NAMESPACES = st.from_regex(r"[a-z0-9](?:[a-z0-9-]{0,20}[a-z0-9])?", fullmatch=True).filter(
    lambda name: name not in RESERVED_NAMESPACES
)
NAMES = st.from_regex(r"[a-z0-9](?:[a-z0-9._-]{0,40}[a-z0-9])?", fullmatch=True)
DIGESTS = st.from_regex(r"sha256:[0-9a-f]{64}", fullmatch=True)
SELECTORS = (
    st.integers(1, 999_999_999).map("v{}".format)
    | st.just("latest")
    | st.from_regex(r"[0-9a-f]{40}", fullmatch=True)
    | st.sampled_from(["prod", "staging", "a", "release-2.1", "x_y", "very-new"])
)
HOSTS = st.none() | st.sampled_from(["hub.example.org", "localhost:8000", "127.0.0.1:8000", "hub"])
REFS = st.builds(AdapterRef, NAMESPACES, NAMES, st.none() | SELECTORS, st.none() | DIGESTS, HOSTS)


@given(ref=REFS)
def test_a_reference_reads_as_it_prints(ref: AdapterRef) -> None:
    assert AdapterRef.parse(str(ref)) == ref


@given(text=st.text(st.sampled_from("abv01@/:.-sha256 \n%"), max_size=40) | st.text(max_size=20))
def test_whatever_is_accepted_has_one_canonical_form(text: str) -> None:
    try:
        ref = AdapterRef.parse(text)
    except RefError:
        return
    assert AdapterRef.parse(str(ref)) == ref
    check_adapter_id(ref.namespace, ref.name)


@pytest.mark.parametrize(
    ("text", "ref", "kind", "is_immutable"),
    [
        ("org/adapter", AdapterRef("org", "adapter"), SelectorKind.LATEST, False),
        ("org/adapter@latest", AdapterRef("org", "adapter", "latest"), SelectorKind.LATEST, False),
        ("org/adapter@v3", AdapterRef("org", "adapter", "v3"), SelectorKind.VERSION, True),
        ("org/adapter@prod", AdapterRef("org", "adapter", "prod"), SelectorKind.ALIAS, False),
        (f"org/adapter@{COMMIT}", AdapterRef("org", "adapter", COMMIT), SelectorKind.COMMIT, True),
        (f"org/adapter@{DIGEST}", AdapterRef("org", "adapter", None, DIGEST), SelectorKind.DIGEST, True),
        (f"org/adapter@sha256-{HEX}", AdapterRef("org", "adapter", None, DIGEST), SelectorKind.DIGEST, True),
        (f"org/adapter@v3@{DIGEST}", AdapterRef("org", "adapter", "v3", DIGEST), SelectorKind.VERSION, True),
        (f"org/adapter@prod@{DIGEST}", AdapterRef("org", "adapter", "prod", DIGEST), SelectorKind.ALIAS, True),
        ("vera://org/adapter@v3", AdapterRef("org", "adapter", "v3"), SelectorKind.VERSION, True),
        ("vera://h:80/org/a_b.c", AdapterRef("org", "a_b.c", host="h:80"), SelectorKind.LATEST, False),
    ],
)
def test_every_form_of_reference(text: str, ref: AdapterRef, kind: SelectorKind, is_immutable: bool) -> None:
    parsed = AdapterRef.parse(text)
    assert parsed == ref
    assert parsed.selector_kind is kind
    assert parsed.is_immutable is is_immutable


def test_a_bare_name_is_completed_with_the_namespace_of_the_user() -> None:
    assert AdapterRef.parse("my-adapter@v2", default_namespace="demo") == AdapterRef("demo", "my-adapter", "v2")
    assert AdapterRef.parse("org/adapter", default_namespace="demo") == AdapterRef("org", "adapter")


@pytest.mark.parametrize(
    "text",
    [
        "", "/", "@", "@v1", "adapter", "org/", "/adapter", "org//adapter", "a/b/c", "org/adapter/file",
        "org/adapter@", "org/adapter@@v1", "org/adapter@v1@", "org/adapter@v1@v2", "org/adapter@v1@prod",
        f"org/adapter@{DIGEST}@{DIGEST}", f"org/adapter@{DIGEST}@v1", f"org/adapter@v1@{DIGEST}@{DIGEST}",
        f"org/adapter@{DIGEST[:-1]}", f"org/adapter@{DIGEST}0", f"org/adapter@{DIGEST.upper()}",
        "org/adapter@sha256:", "org/adapter@sha256", "org/adapter@md5:00", f"org/adapter@v1@{HEX}",
        "org/adapter@v0", "org/adapter@v01", "org/adapter@v1234567890", "org/adapter@V3", "vera://../org/adapter",
        "org/adapter@main", "org/adapter@head", "org/adapter@deadbeef", "org/adapter@abcdef0", "org/adapter@sha256x",
        "org/adapter@1", "org/adapter@-prod", "org/adapter@prod-", "org/adapter@pr od", "org/adapter@Prod",
        "vera://", "vera://org", "hf://org", "hf://org/adapter", "vera:///org/adapter", "vera://-_/org/adapter", "hf://host/org/adapter",
        "https://host/org/adapter", "VERA://org/adapter", "vera://HOST/org/adapter", "vera://h:123456/org/adapter",
        "vera://user@host/org/adapter", "vera://h/org/adapter/x",
    ],
    ids=lambda text: text[:40] or "empty",
)  # fmt: skip
def test_what_is_no_reference_is_refused(text: str) -> None:
    with pytest.raises(RefError):
        AdapterRef.parse(text)


@pytest.mark.parametrize("selector", ["v1", "v999999999", "latest", COMMIT, "prod", "z", "abcdeg7", "decade", "vv1"])
def test_selectors_that_select(selector: str) -> None:
    assert kind_of_selector(selector) is not None


def test_an_identifier_may_be_96_characters_long() -> None:
    namespace = "n" * 39
    check_adapter_id(namespace, "a" * (MAX_ID_OCTETS - 40))
    with pytest.raises(RefError) as refused:
        check_adapter_id(namespace, "a" * (MAX_ID_OCTETS - 39))
    assert refused.value.code == "NAME_INVALID"


@pytest.mark.parametrize("word", sorted(RESERVED_NAMESPACES))
def test_the_words_of_the_hub_are_nobodys_name(word: str) -> None:
    with pytest.raises(RefError, match="keeps for itself"):
        check_namespace(word)
    with pytest.raises(RefError):
        AdapterRef.parse(f"{word}/adapter")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("my-adapter", "my_adapter"),
        ("my-adapter", "my.adapter"),
        ("my-adapter", "myadapter"),
        ("l0ra", "lora"),
        ("vil", "vi1"),
    ],
)
def test_names_that_look_alike_fold_to_one(one: str, other: str) -> None:
    assert fold_name(one) == fold_name(other)


@pytest.mark.parametrize(("one", "other"), [("topics", "topic"), ("a1", "a2"), ("mrpc-a", "mrpc-b")])
def test_names_that_differ_stay_apart(one: str, other: str) -> None:
    assert fold_name(one) != fold_name(other)


@given(name=NAMES)
def test_folding_twice_is_folding_once(name: str) -> None:
    assert fold_name(fold_name(name)) == fold_name(name)


def test_a_refusal_says_what_to_write_instead() -> None:
    with pytest.raises(RefError, match=r"owner/name@v3"):
        AdapterRef.parse("adapter")
    with pytest.raises(RefError, match=r"version \(v3\), an alias \(prod\)"):
        AdapterRef.parse("org/adapter@v0")
    with pytest.raises(RefError, match="letter or digit") as refused:
        AdapterRef.parse("Org/adapter")
    assert refused.value.code == "NAME_INVALID"
    assert refused.value.facts == {"name": "Org"}
