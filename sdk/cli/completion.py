"""`completion`: the script by which a shell completes the commands of `vera-hub`."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from sdk.cli import terminal


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the script that completes commands in SHELL.

    \b
    bash   echo 'eval "$(vera-hub completion bash)"' >> ~/.bashrc
    zsh    echo 'eval "$(vera-hub completion zsh)"' >> ~/.zshrc
    fish   vera-hub completion fish > ~/.config/fish/completions/vera-hub.fish
    """
    kind = get_completion_class(shell)
    assert kind is not None, f"click knows no {shell}"
    script = kind(context.find_root().command, {}, "vera-hub", "_VERA_HUB_COMPLETE").source()
    terminal.say(script)
