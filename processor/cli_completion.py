"""`processor completion`: our commands by Tab."""

import click
from click.shell_completion import get_completion_class


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print a script that teaches the shell to complete these commands by Tab.

    \b
    bash   processor completion bash > ~/.local/share/bash-completion/completions/processor
    zsh    processor completion zsh > ~/.processor-completion; echo '. ~/.processor-completion' >> ~/.zshrc
    fish   processor completion fish > ~/.config/fish/completions/processor.fish

    Then start a new shell.
    """  # noqa: D301 - the character, not its escape, keeps click from filling the lines
    script = get_completion_class(shell)
    assert script is not None  # noqa: S101 - click has all three
    click.echo(script(click.get_current_context().find_root().command, {}, "processor", "_PROCESSOR_COMPLETE").source())
