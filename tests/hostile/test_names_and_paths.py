"""Names that pose as others and paths that lead elsewhere (T27, T29 to T33)."""

from __future__ import annotations

import os
import shutil
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.builders import make_archive
from vera.archive import MAX_BYTES, Archive, inspect, read_folder, write_folder
from vera.errors import ArchiveError, RefError, VeraError
from vera.manifest import CARD_FILE, MANIFEST_FILE, WEIGHTS_FILE
from vera.ref import AdapterRef, check_adapter_id, check_namespace, fold_name

ADAPTER = make_archive()

# -- T29, T30: names --------------------------------------------------------------------------------

POSING = {
    "capital": "Demo",
    "Cyrillic о": "dem\u043e",
    "fullwidth": "\uff44emo",
    "dotless i": "adm\u0131n",
    "ligature": "\ufb01les",
    "combining accent": "demo\u0301",
    "zero-width space": "de\u200bmo",
    "zero-width joiner": "de\u200dmo",
    "soft hyphen": "de\u00admo",
    "right to left": "\u202eomed",
    "byte-order mark": "\ufeffdemo",
    "non-breaking space": "de\u00a0mo",
    "mathematical letters": "\U0001d41demo",
    "Arabic-Indic digit": "demo\u0661",
    "superscript": "demo\u00b2",
    "Kelvin sign": "\u212aey",
    "long s": "\u017fet",
    "line end": "demo\n",
    "NUL": "demo\0",
    "escape": "\x1b[31mdemo",
    "space": "de mo",
    "empty": "",
}
TRAVERSALS = [
    "..", ".", "...", "../x", "..\\x", "%2e%2e", "%252e%252e", "%2f", "a%2fb", "a%5cb", "a\\b", "a/../b", "/etc", "~", "~root",
    "C:", "C:\\x", "a:b", "a;b", "a?b", "a#b", "a&b", "$HOME", "`id`", "$(id)", "a|b", "*", "-rf", ".git", ".env", "a.", "a-", "_a",
]  # fmt: skip


@pytest.mark.parametrize("name", [*POSING.values(), *TRAVERSALS], ids=ascii)
def test_a_name_is_plain_lower_case_ascii(name: str) -> None:
    for attempt in (
        lambda: check_namespace(name),
        lambda: check_adapter_id("demo", name),
        lambda: check_adapter_id(name, "x"),
    ):
        with pytest.raises(RefError) as refused:
            attempt()
        assert refused.value.code == "NAME_INVALID"
        assert str(refused.value).isprintable()


@pytest.mark.parametrize("name", [*POSING.values(), *TRAVERSALS], ids=ascii)
def test_no_reference_reaches_such_a_name(name: str) -> None:
    for text in (
        f"{name}/adapter",
        f"demo/{name}",
        f"vera://host/demo/{name}",
        f"vera://{name}/demo/adapter",
        f"demo/adapter@{name}",
    ):
        try:
            parsed = AdapterRef.parse(text)
        except RefError as error:
            shown = str(error)
            assert shown.isprintable()  # most, not all, of these texts are refused
        else:
            assert name not in (parsed.namespace, parsed.name, parsed.host)


@pytest.mark.parametrize("word", ["api", "admin", "con", "nul", "hub", "settings", "www", "static"])
def test_the_words_of_routes_and_devices_are_reserved(word: str) -> None:
    with pytest.raises(RefError):
        check_namespace(word)


@pytest.mark.parametrize(
    ("one", "other"), [("rnodel-0", "rnodel-o"), ("v1sion", "vlsion"), ("vision", "vlsion"), ("a_b.c", "a-bc")]
)
def test_lookalikes_within_ascii_fold_to_one(one: str, other: str) -> None:
    assert fold_name(one) == fold_name(other)


# -- T31: what stands in a folder -------------------------------------------------------------------

FILES = [MANIFEST_FILE, WEIGHTS_FILE, CARD_FILE]


def link_to_a_secret(path: Path) -> None:
    secret = path.parent.parent / "id_rsa"
    secret.write_text("PRIVATE KEY")
    path.symlink_to(secret)


def link_to_itself(path: Path) -> None:
    path.symlink_to(path)


def link_to_nowhere(path: Path) -> None:
    path.symlink_to(path.parent / "nowhere")


def link_to_a_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        here = os.open(".", os.O_RDONLY)
        try:
            os.chdir(path.parent)  # the address of a socket is short
            server.bind(path.name)
        finally:
            os.fchdir(here)
            os.close(here)


UNSAFE: list[Callable[[Path], None]] = [
    link_to_a_secret, link_to_itself, link_to_nowhere, link_to_a_device, make_socket, os.mkfifo, Path.mkdir,
]  # fmt: skip


@pytest.mark.timeout(60)  # a pipe that is waited for never answers
@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("replace", UNSAFE, ids=lambda f: f.__name__)
def test_only_plain_files_are_read(tmp_path: Path, name: str, replace: Callable[[Path], None]) -> None:
    write_folder(ADAPTER, tmp_path / "a")
    (tmp_path / "a" / name).unlink()
    replace(tmp_path / "a" / name)
    handles = open_handles()

    with pytest.raises(ArchiveError) as refused:
        read_folder(tmp_path / "a")

    assert refused.value.code == "SOURCE_UNSAFE"
    assert "PRIVATE" not in str(refused.value)
    assert ("is a link" in str(refused.value)) == replace.__name__.startswith("link")
    assert open_handles() == handles


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_too_large_is_not_read(tmp_path: Path, name: str) -> None:
    write_folder(ADAPTER, tmp_path / "a")
    os.truncate(tmp_path / "a" / name, 1 << 40)  # a hole: no disk is used
    with pytest.raises(ArchiveError) as refused:
        read_folder(tmp_path / "a")
    assert refused.value.code == "FILE_TOO_LARGE"
    assert f"has {1 << 40:,} bytes, and {name} may have {MAX_BYTES[name]:,}" in str(refused.value)


def test_a_folder_without_an_adapter_says_what_writes_one(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for place, code in (
        (tmp_path, "FILE_MISSING"),
        (tmp_path / "nowhere", "FILE_MISSING"),
        (tmp_path / "file", "SOURCE_UNSAFE"),
    ):
        with pytest.raises(ArchiveError) as refused:
            read_folder(place)
        assert refused.value.code == code
    with pytest.raises(ArchiveError, match="vera-hub train"):
        read_folder(tmp_path)


def test_a_linked_folder_is_read_where_it_leads(tmp_path: Path) -> None:
    """The user named the folder; only what stands in it is a stranger's."""
    write_folder(ADAPTER, tmp_path / "real")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert read_folder(tmp_path / "link") == ADAPTER


# -- T27: files that change meanwhile ---------------------------------------------------------------


def test_files_that_change_while_they_are_read_are_one_adapter_or_an_error(tmp_path: Path) -> None:
    """Each file is read once, and what was read is what is checked and used."""
    folder, versions = tmp_path / "a", [ADAPTER, make_archive(seed=1)]
    write_folder(ADAPTER, folder)
    stop = threading.Event()
    swapper = threading.Thread(target=swap_files, args=(folder, versions, stop))
    swapper.start()
    try:
        outcomes = {outcome_of(folder, versions) for _ in range(300)}
    finally:
        stop.set()
        swapper.join()
    assert outcomes <= {"one adapter", "DIGEST_INVALID"}
    assert "one adapter" in outcomes


def swap_files(folder: Path, versions: list[Archive], stop: threading.Event) -> None:
    while not stop.is_set():
        for version in versions:
            for name in (MANIFEST_FILE, WEIGHTS_FILE):
                (folder / "next").write_bytes(version.files[name])
                (folder / "next").replace(folder / name)


def outcome_of(folder: Path, versions: list[Archive]) -> str:
    try:
        read = read_folder(folder)
    except VeraError as error:
        return error.code
    return "one adapter" if read in versions else "a mixture"


def test_a_checked_adapter_outlives_its_folder(tmp_path: Path) -> None:
    write_folder(ADAPTER, tmp_path / "a")
    read = read_folder(tmp_path / "a")
    shutil.rmtree(tmp_path / "a")
    assert inspect(read.files) == ADAPTER


def open_handles() -> int:
    return len(os.listdir("/dev/fd"))
