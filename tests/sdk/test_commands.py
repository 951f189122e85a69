"""The commands against a hub that says what a test wants; tests/functional runs them against the real one."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from sdk.config import Config, Login, Profile
from tests.builders import make_archive
from tests.sdk.commands import run
from tests.sdk.fakes import NOW, TOKEN, URL, FakeHub, answer, evaluation_json, problem, serve, version_json
from vera import archive as archives
from vera.manifest import DVORA

HOSTILE = "\x1b]0;owned\x07\x1b[2J\u202eevil\x9b\r\nname"
HARMLESS = "]0;owned[2Jevil name"


@pytest.fixture
def url(fake: FakeHub) -> Iterator[str]:
    with serve(fake) as at:
        yield at


def adapter_json(name: str = "a", **changes: object) -> dict[str, object]:
    return {
        "id": f"demo/{name}",
        "namespace": "demo",
        "name": name,
        "base": {"name": "tiny", "fingerprint": "vbf1:0"},
        "task": {"kind": "text-classification", "labels": ["x", "y"]},
        "latest": 2,
        "created_at": NOW,
        "updated_at": NOW,
        **changes,
    }


def board_json(*rows: dict[str, object]) -> dict[str, object]:
    suite = {
        "name": "demo/topics",
        "digest": "sha256:0",
        "definition": {},
        "title": "Topics",
        "metric": "accuracy",
        "items": 400,
        "labels": ["x", "y"],
        "baselines": {"majority": 0.25},
        "created_at": NOW,
    }
    return {"suite": suite, "rows": list(rows)}


def row_json(rank: int, ref: str, score: float, *, tied: bool) -> dict[str, object]:
    return {
        "rank": rank,
        "tied_with_best": tied,
        "ref": ref,
        "digest": "sha256:0",
        "base": {"name": "tiny", "fingerprint": "vbf1:0"},
        "score": score,
        "interval": [score - 0.05, score + 0.05],
        "adapter_rank": 8,
        "parameters": 1000,
        "vector_bytes": 4000,
        "head_bytes": 100,
        "lora_bytes": 40_000,
        "created_by": "demo",
        "evaluation_id": "e",
        "finished_at": NOW,
    }


# -- Logging in -----------------------------------------------------------------------------------


def test_login_tries_the_token_and_saves_it_for_its_owner_only(fake: FakeHub, url: str, tmp_path: Path) -> None:
    done = run(url, "login", stdin=f"{TOKEN}\n")

    assert done.exit_code == 0, done.stderr
    assert done.stdout == f"Logged in to {url} as demo; it is the default hub now.\n"
    assert Profile.read(tmp_path / "config") == Profile(url, {url: Login(TOKEN, "demo")})
    assert stat.S_IMODE((tmp_path / "config" / "profile.json").stat().st_mode) == 0o600
    assert fake.requests[0].headers["authorization"] == f"Bearer {TOKEN}"


def test_login_keeps_nothing_of_a_token_the_hub_refuses(fake: FakeHub, url: str, tmp_path: Path) -> None:
    fake.first = [problem(401, "TOKEN_INVALID", "The token is not valid: make a new one.")]

    done = run(url, "login", stdin=TOKEN)

    assert done.exit_code == 1
    assert done.stderr == "Error: The token is not valid: make a new one.\n"
    assert not (tmp_path / "config").exists()


@pytest.mark.parametrize("stdin", ["", "\n", "two words\n"])
def test_login_without_a_token_asks_nobody(fake: FakeHub, url: str, stdin: str) -> None:
    assert run(url, "login", stdin=stdin).exit_code == 1
    assert fake.requests == []


def test_no_command_ever_prints_a_token(fake: FakeHub, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VERA_HUB_TOKEN", TOKEN)
    fake.first = [problem(401, "TOKEN_INVALID", "Not valid.")]

    for arguments in (["login"], ["whoami"], ["--debug", "push", "nowhere"], ["doctor"], ["doctor", "--json"]):
        done = run(url, *arguments)
        assert TOKEN not in done.output


def test_whoami_says_who_and_what_one_may(url: str) -> None:
    assert run(url, "whoami").stdout == f"demo (user) at {url}\nMay: repo:push\n"


def test_a_name_without_its_owner_is_answered_with_ones_own(
    fake: FakeHub, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def said(ref: str) -> str:
        return run(url, "versions", ref).stderr

    as_ever = "Error: 'my-adapter@v3' is not a reference: write it as owner/name or owner/name@v3."
    assert said("my-adapter@v3") == f"{as_ever}\n"
    run(url, "login", stdin=f"{TOKEN}\n")
    fake.requests.clear()

    assert said("my-adapter@v3") == f"{as_ever} Did you mean demo/my-adapter@v3?\n"
    assert "Did you mean" not in said("My Adapter")
    assert "Did you mean" not in said("a/b/c")
    assert fake.requests == []  # the profile says who that is
    monkeypatch.setenv("VERA_HUB_TOKEN", TOKEN[:-1] + "U")
    assert "Did you mean" not in said("my-adapter@v3")  # of another token it does not


# -- What a hub says is not obeyed ----------------------------------------------------------------


def test_names_with_escape_codes_are_printed_without_them(fake: FakeHub, url: str) -> None:
    fake.canned = {
        "GET /api/v1/adapters": [{"items": [adapter_json(base={"name": HOSTILE, "fingerprint": "f"})], "next": None}],
        "GET /api/v1/whoami": [{"name": HOSTILE, "kind": "user", "scopes": [HOSTILE]}],
        "GET /api/v1/leaderboards/demo/topics": [board_json(row_json(1, HOSTILE, 0.8, tied=True))],
        "GET /api/v1/suites": [{"items": [], "next": None}],
        "GET /api/v1/bases": [problem(503, "X", HOSTILE)],
    }

    for arguments in (["list"], ["whoami"], ["leaderboard", "demo/topics"], ["base", "list", "--hub"]):
        done = run(url, *arguments)
        shown = done.stdout + done.stderr
        assert HARMLESS in shown.replace("\n", " "), arguments
        assert not set(shown) & set("\x1b\x07\x9b\r\u202e"), arguments


def test_markup_in_a_name_is_only_text(fake: FakeHub, url: str) -> None:
    fake.canned["GET /api/v1/adapters"] = [{"items": [adapter_json(id="[bold]demo/a[/bold]")], "next": None}]

    assert "[bold]demo/a[/bold]" in run(url, "list").stdout


# -- Lists ----------------------------------------------------------------------------------------


def test_list_shows_each_adapter_on_one_line(fake: FakeHub, url: str) -> None:
    fake.canned["GET /api/v1/adapters"] = [{"items": [adapter_json("a"), adapter_json("b", task=None)], "next": None}]

    done = run(url, "list", "--search", "x", "--base", "tiny", "--owner", "demo")

    lines = [line.split() for line in done.stdout.splitlines() if "demo/" in line]
    assert lines == [
        ["demo/a", "v2", "tiny", "text-classification", "(2", "labels)", NOW[:10]],
        ["demo/b", "v2", "tiny", NOW[:10]],
    ]
    assert dict(fake.requests[0].url.params) == {"search": "x", "base": "tiny", "owner": "demo"}


def test_a_task_without_labels_is_listed_without_a_count_of_them(fake: FakeHub, url: str) -> None:
    task = {"kind": "text-generation", "labels": [], "pooling": None, "max_length": 64}
    fake.canned["GET /api/v1/adapters"] = [{"items": [adapter_json("a", task=task)], "next": None}]

    line = next(line for line in run(url, "list").stdout.splitlines() if "demo/a" in line)

    assert line.split() == ["demo/a", "v2", "tiny", "text-generation", NOW[:10]]


FOUND = {
    **adapter_json("a"),
    **{"rank": 8, "vector_bytes": 1000, "head_bytes": 24, "size_bytes": 4096, "license": "mit", "downloads": 3},
    **{"tags": ["dutch", "news"], "score": 0.5, "bytes_per_point": 20.48},
}
FACETS = {
    **{"counted": 1, "is_complete": False, "tasks": [], "licenses": [], "ranks": [], "tags": [], "owners": []},
    "bases": [{"value": "tiny", "count": 2}, {"value": "large", "count": 1}],
    "families": [{"value": "tiny", "count": 3}],
}


def test_search_shows_what_is_found_and_what_there_is_to_choose(fake: FakeHub, url: str) -> None:
    fake.canned["GET /api/v1/adapters"] = [{"items": [FOUND], "next": None}]
    fake.canned["GET /api/v1/adapters/facets"] = [FACETS]

    done = run(url, "search", "two", "words", "--tag", "a", "--tag", "b", "--suite", "demo/topics", "--sort", "score")

    (line,) = [line.split() for line in done.stdout.splitlines() if "demo/" in line]
    assert line == ["demo/a", "v2", "tiny", "text-classification", "8", "1000", "B", "0.5000", "20", "dutch,", "news"]
    assert "bases: tiny (2), large (1)" in done.stderr
    assert "families" not in done.stderr
    assert "last updated" in done.stderr
    asked = fake.requests[0].url.params
    assert (asked["search"], asked.get_list("tag"), asked["sort"]) == ("two words", ["a", "b"], "score")
    assert "sort" not in fake.requests[1].url.params


def test_search_for_programs_is_one_object(fake: FakeHub, url: str) -> None:
    fake.canned["GET /api/v1/adapters"] = [{"items": [FOUND, FOUND], "next": "more"}]
    fake.canned["GET /api/v1/adapters/facets"] = [FACETS]

    answer = json.loads(run(url, "search", "--limit", "1", "--json").stdout)

    assert [each["tags"] for each in answer["adapters"]] == [["dutch", "news"]]
    assert answer["facets"]["bases"][0] == {"value": "tiny", "count": 2}


def test_list_stops_at_its_limit_and_says_so(fake: FakeHub, url: str) -> None:
    fake.canned["GET /api/v1/adapters"] = [{"items": [adapter_json(f"a{i}") for i in range(3)], "next": "more"}]

    done = run(url, "list", "--limit", "2", "--json")

    assert [item["id"] for item in json.loads(done.stdout)] == ["demo/a0", "demo/a1"]
    assert len(fake.requests) == 1


def test_an_empty_hub_says_how_to_fill_it(fake: FakeHub, url: str) -> None:
    empty = {"items": [], "next": None}
    fake.canned = {
        "GET /api/v1/adapters": [empty],
        "GET /api/v1/suites": [empty],
        "GET /api/v1/leaderboards/demo/topics": [board_json()],
    }

    assert "vera-hub push" in run(url, "list").stdout
    assert "vera-hub worker" in run(url, "suites").stdout
    assert "vera-hub eval" in run(url, "leaderboard", "demo/topics").stdout
    assert "vera-hub base add" in run(url, "base", "list").stdout


def test_a_leaderboard_shows_scores_sizes_costs_and_ties(fake: FakeHub, url: str) -> None:
    rows = [
        row_json(1, "demo/a@v2", 0.82, tied=True),
        row_json(2, "demo/a@v1", 0.81, tied=True),
        row_json(3, "demo/b@v1", 0.4, tied=False),
    ]
    fake.canned["GET /api/v1/leaderboards/demo/topics"] = [board_json(*({**row, "seconds": 12.5} for row in rows))]

    done = run(url, "leaderboard", "demo/topics")

    lines = [line.split() for line in done.stdout.splitlines() if "demo/a@" in line or "demo/b@" in line]
    sizes = ["3.9", "KiB", "100", "B", "39.1", "KiB", "10.0", "12.5", "tiny"]
    assert lines == [
        ["1", "demo/a@v2", "0.8200", "[0.7700,", "0.8700]", *sizes],
        ["=2", "demo/a@v1", "0.8100", "[0.7600,", "0.8600]", *sizes],
        ["3", "demo/b@v1", "0.4000", "[0.3500,", "0.4500]", *sizes],
    ]
    assert "majority baseline 0.2500" in done.stdout
    assert "not significantly different" in done.stdout


# -- info -----------------------------------------------------------------------------------------


def test_info_shows_the_sizes_beside_those_of_lora_and_what_proves_it(fake: FakeHub, url: str) -> None:
    archive = make_archive()
    fake.publish("demo/a", archive)
    fake.change_version = lambda version: version.update(evaluations=[evaluation_json()])

    done = run(url, "info", "demo/a")

    manifest = archive.manifest
    lora = 4 * 8 * sum(module.in_features + module.out_features for module in manifest.modules)
    for text in (
        "demo/a@v1",
        "2 by VeRA, rank 8",
        f"{manifest.weights.vector_bytes:,} bytes",
        f"{manifest.weights.vector_bytes + manifest.weights.head_bytes:,} bytes",
        f"{archive.size_bytes:,} bytes",
        f"{lora:,} bytes",
        f"{lora / manifest.weights.vector_bytes:.1f} × smaller",
        manifest.base.fingerprint,
        manifest.projection_digest,
        manifest.digest,
        manifest.weights.sha256,
        "0.8000",
    ):
        assert text in done.stdout


def test_info_of_a_folder_needs_no_hub(tmp_path: Path) -> None:
    archive = make_archive(method=DVORA)
    archives.write_folder(archive, tmp_path / "mine")

    done = run("http://127.0.0.1:9", "info", str(tmp_path / "mine"), "--json")

    found = json.loads(done.stdout)
    assert found["method"] == "dvora"
    assert (found["digest"], found["size_bytes"]) == (archive.manifest.digest, archive.size_bytes)
    assert found["vector_and_head_bytes"] == found["vector_bytes"] + found["head_bytes"]


def test_info_of_a_folder_that_is_not_there_does_not_ask_a_hub_for_it(fake: FakeHub, url: str) -> None:
    done = run(url, "info", "./nowhere")

    assert done.exit_code == 1
    assert "There is no folder" in done.stderr
    assert fake.requests == []


# -- doctor ---------------------------------------------------------------------------------------


def test_doctor_finds_nothing_wrong_with_a_good_machine(fake: FakeHub, url: str, config: Config) -> None:
    Profile().with_login(url, Login(TOKEN, "demo")).write(config.folder)
    fake.canned["GET /healthz"] = [{"status": "ok", "version": "0.1.0"}]

    done = run(url, "doctor", "--json")

    checks = {check["what"]: check["health"] for check in json.loads(done.stdout)}
    assert set(checks) == {
        "python", "torch", "gpu", "packages", "profile", "cache", "bases", "hub", "token", "clock",
    }  # fmt: skip
    assert {health for what, health in checks.items() if what != "gpu"} == {
        "ok"
    }  # a machine may have one it cannot use
    assert done.exit_code == 0


def test_doctor_says_what_is_wrong_and_what_to_do(
    config: Config, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    Profile().write(config.folder)
    (config.folder / "profile.json").chmod(0o644)
    (tmp_path / "file").touch()
    monkeypatch.setenv("VERA_HUB_CACHE", str(tmp_path / "file"))

    done = run("http://127.0.0.1:9", "doctor")

    assert done.exit_code == 1
    assert "warn  profile" in done.stdout
    assert f"chmod 600 {config.folder / 'profile.json'}" in done.stdout
    assert "FAIL  cache" in done.stdout
    assert "FAIL  hub        No hub answers at http://127.0.0.1:9" in done.stdout


@pytest.mark.parametrize("spoiled", ["profile.json", "bases.json"])
def test_doctor_goes_on_after_a_broken_file_of_settings(fake: FakeHub, url: str, config: Config, spoiled: str) -> None:
    config.folder.mkdir(parents=True)
    (config.folder / spoiled).write_text("{")
    fake.canned["GET /healthz"] = [{"status": "ok", "version": "0.1.0"}]

    done = run(url, "doctor", "--json")

    checks = {check["what"]: check for check in json.loads(done.stdout)}
    broken = checks["settings" if spoiled == "profile.json" else "bases"]
    assert done.exit_code == 1
    assert broken["health"] == "FAIL"
    assert str(config.folder / spoiled) in broken["sentence"]
    assert checks["cache"]["health"] == checks["hub"]["health"] == "ok"


def test_doctor_goes_on_as_far_as_it_can_when_no_setting_can_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VERA_HUB_TOKEN", "two words")

    done = run(URL, "doctor")

    assert done.exit_code == 1
    assert "ok    python" in done.stdout
    assert "FAIL  settings   The token holds characters no token has" in done.stdout


def test_doctor_finds_another_package_that_has_one_of_our_names(tmp_path: Path) -> None:
    """Real installations: the metadata of a distribution that brings a `hub` too."""
    metadata = tmp_path / "activeloop-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: activeloop\nVersion: 1.0\n")
    (metadata / "top_level.txt").write_text("hub\n")
    script = "from sdk.cli.doctor import check_packages; print(check_packages().sentence)"

    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])},
        capture_output=True, text=True, check=True,
    )  # fmt: skip

    assert "activeloop is installed here and has a package hub too" in done.stdout
    assert "pip uninstall activeloop" in done.stdout


# -- What goes wrong ------------------------------------------------------------------------------


def test_a_failure_is_one_sentence_without_a_traceback(url: str) -> None:
    done = run(url, "pull", "demo/unknown")

    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr == "Error: demo/unknown has no latest.\n"


def test_debug_shows_where_it_comes_from_and_changes_no_status(url: str, capfd: pytest.CaptureFixture[str]) -> None:
    done = run(url, "--debug", "pull", "demo/unknown")

    assert done.exit_code == 1
    assert "Traceback" in done.stderr + capfd.readouterr().err


def test_an_answer_that_makes_no_sense_is_one_sentence_too(fake: FakeHub, url: str) -> None:
    fake.first = [answer([])]

    done = run(url, "whoami")

    assert done.exit_code == 1
    assert done.stderr.startswith("Error: The hub's answer cannot be used: Account must be an object")


def test_a_misspelt_command_is_usage(url: str) -> None:
    assert run(url, "psuh").exit_code == 2
    assert run(url, "--bogus", "eval").exit_code == 2
    assert run(url, "info", "demo/a", "--bogus").exit_code == 2


def test_the_statuses_are_in_the_help() -> None:
    assert "Exit status: 0 done, 1 it failed or was refused, 2 the command itself is wrong" in " ".join(
        run(URL, "--help").stdout.split()
    )


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_completes_commands_and_options(shell: str, tmp_path: Path) -> None:
    script = run(URL, "completion", shell)
    line, at = "vera-hub pul", "1"
    asking = {
        "_VERA_HUB_COMPLETE": f"{shell}_complete",
        "COMP_WORDS": line,
        "COMP_CWORD": "pul" if shell == "fish" else at,
    }
    completed = subprocess.run(
        [sys.executable, "-c", "from sdk.cli.main import main; main()"],
        env={**os.environ, **asking}, capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert "_VERA_HUB_COMPLETE" in script.stdout
    assert "pull" in completed.stdout


def test_versions_are_listed_with_what_means_them_and_what_became_of_them(fake: FakeHub, url: str) -> None:
    archive = make_archive()
    third, second, first = (version_json("demo/a", number, archive) for number in (3, 2, 1))
    prod = {
        "name": "prod",
        "version": 1,
        "ref": "demo/a@v1",
        "digest": "sha256:0",
        "protected": False,
        "revision": 1,
    } | {
        "updated_at": NOW,
        "updated_by": "demo",
    }
    listed = [third | {"prerelease": True}, second | {"message": "twice the epochs"}, first | {"yanked": "it is wrong"}]
    fake.canned["GET /api/v1/adapters/demo/a"] = [{**adapter_json(), "versions": listed, "aliases": [prod]}] * 2

    done, as_json = run(url, "versions", "demo/a"), run(url, "versions", "demo/a", "--json")

    head, *rows = done.stdout.splitlines()
    assert head.split() == ["version", "pushed", "by", "rank", "vectors", "is", "message"]
    assert [row.split()[0] for row in rows] == ["v3", "v2", "v1"]
    assert rows[0].rstrip().endswith("pre-release")
    assert "latest  twice the epochs" in rows[1]
    assert rows[2].split()[-5:] == ["prod", "yanked:", "it", "is", "wrong"]
    found = json.loads(as_json.stdout)
    assert (found["latest"], len(found["versions"]), found["aliases"][0]["name"]) == (2, 3, "prod")


@pytest.mark.parametrize(
    ("typed", "said"), [("pus", "Did you mean push"), ("veryfy", "Did you mean verify?"), ("xyzzy", "No such command")]
)
def test_an_unknown_command_is_answered_with_what_it_may_be_meant_for(url: str, typed: str, said: str) -> None:
    done = run(url, typed)
    assert done.exit_code == 2
    assert said in done.stderr
    assert ("Did you mean" in done.stderr) == (typed != "xyzzy")


def test_a_warning_is_said_once(fake: FakeHub, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a cache that cannot be written, every file of it warns."""
    fake.publish("demo/a", make_archive())
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("VERA_HUB_CACHE", str(tmp_path / "file"))

    done = run(url, "pull", "demo/a@v1", "--to", str(tmp_path / "out"))

    assert (done.exit_code, done.stderr.count("cannot be written")) == (0, 1)


def test_a_mistyped_adapter_is_answered_with_those_it_may_be_meant_for(fake: FakeHub, url: str) -> None:
    there = {"items": [adapter_json("topics"), adapter_json("colours")], "next": None}
    fake.canned["GET /api/v1/adapters/demo/topcis"] = [
        problem(404, "ADAPTER_UNKNOWN", "It is not here.", adapter="demo/topcis")
    ]
    fake.canned["GET /api/v1/adapters"] = [there]

    done = run(url, "versions", "demo/topcis")

    assert done.exit_code == 1
    assert done.stderr.endswith("Did you mean demo/topics?\n")


def test_a_mistyped_adapter_of_another_hub_is_looked_for_there(fake: FakeHub, url: str) -> None:
    unknown = problem(404, "ADAPTER_UNKNOWN", "It is not here.", adapter="demo/topcis")
    fake.canned["GET /api/v1/adapters/demo/topcis/versions/latest"] = [unknown]
    fake.canned["GET /api/v1/adapters"] = [{"items": [adapter_json("topics")], "next": None}]
    there = urlsplit(url).netloc

    done = run("http://127.0.0.1:1", "pull", f"vera://{there}/demo/topcis")

    assert done.exit_code == 1
    assert done.stderr.endswith(f"Did you mean vera://{there}/demo/topics?\n")


def test_a_name_that_is_like_no_other_is_answered_without_a_guess(fake: FakeHub, url: str) -> None:
    fake.canned["GET /api/v1/adapters/demo/weather"] = [
        problem(404, "ADAPTER_UNKNOWN", "It is not here.", adapter="demo/weather")
    ]
    fake.canned["GET /api/v1/adapters"] = [{"items": [adapter_json("topics")], "next": None}]

    assert "Did you mean" not in run(url, "versions", "demo/weather").stderr


def test_a_mistyped_suite_is_answered_with_those_it_may_be_meant_for(fake: FakeHub, url: str) -> None:
    fake.canned["GET /api/v1/suites/demo/topic"] = [
        problem(404, "SUITE_UNKNOWN", "It is not here.", suite="demo/topic")
    ]
    fake.canned["GET /api/v1/suites"] = [{"items": [board_json()["suite"]], "next": None}]

    done = run(url, "suites", "demo/topic")

    assert done.stderr.endswith("Did you mean demo/topics?\n")


@pytest.mark.parametrize(("metric", "meaning"), [("matthews", "two numbers: the right class"), ("accuracy", "")])
def test_losses_say_what_two_numbers_of_an_item_are(fake: FakeHub, url: str, metric: str, meaning: str) -> None:
    for version in (1, 2):
        fake.publish("demo/a", make_archive())
        fake.canned[f"GET /api/v1/adapters/demo/a/versions/v{version}"] = [
            {
                **version_json("demo/a", version, make_archive()),
                "evaluations": [evaluation_json(id=f"eval-{version}")],
            }
        ]
    item = {
        "item": 1,
        "change": "worse",
        "output": "x",
        "against_output": "y",
        "outcome": [1, 0],
        "against_outcome": [1, 1],
    }
    compared = {
        "suite": "demo/topics", "metric": metric, "ref": "demo/a@v2", "against": "demo/a@v1",
        "worse": 1, "better": 0, "same": 0, "items": [item], "next": None,
    }  # fmt: skip
    fake.canned["GET /api/v1/evaluations/eval-2/items"] = [compared]

    done = run(url, "losses", "demo/a@v2", "@v1", "--suite", "demo/topics")

    assert done.exit_code == 0, done.stderr
    assert "1 0" in done.stdout
    assert meaning in done.stderr
    assert ("two numbers" in done.stderr) == bool(meaning)


def test_what_to_use_instead_is_reason_enough_to_deprecate(fake: FakeHub, url: str) -> None:
    fake.publish("demo/a", make_archive())
    fake.canned["PUT /api/v1/adapters/demo/a/versions/v1/deprecation"] = [version_json("demo/a", 1, make_archive())]

    assert run(url, "deprecate", "demo/a@v1", "--use", "demo/b").exit_code == 0
    assert json.loads(fake.requests[-1].content)["replacement"] == "demo/b"
    assert run(url, "deprecate", "demo/a@v1").exit_code == 2
    assert run(url, "deprecate", "demo/a@v1", "--undo", "--use", "demo/b").exit_code == 2
