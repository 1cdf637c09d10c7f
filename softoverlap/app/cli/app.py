"""The command itself: its name, its help, its version. Commands add themselves to `app`."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from softoverlap.app.cli.console import BAD_INPUT, errors, message_of, say

app = typer.Typer(
    name="softoverlap",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help=(
        "Find lesions in 3D scans with a detector that learns from soft masks.\n\n"
        "Try it:              softoverlap demo\n\n"
        "Train on your own:   softoverlap train --data FOLDER --output runs/mine\n\n"
        "Use it on others:    softoverlap detect runs/mine/checkpoint.pt scans/ --output found\n\n"
        "Score a folder:      softoverlap score pred/ truth/ --output results\n\n"
        "Read the results:    softoverlap report results"
    ),
)


def print_version(asked: bool) -> bool:
    """Print the version and exit, if asked."""
    if asked:
        from softoverlap import __version__

        say(f"softoverlap {__version__}")
        raise typer.Exit
    return asked


@app.callback()
def common(
    version: Annotated[
        bool,
        typer.Option("--version", callback=print_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """Print the version, or run a command."""


def main() -> None:
    """Run the command; `--help` and `--version` may meet a full disk too."""
    try:
        app()
    except OSError as error:
        errors.print(f"error: {message_of(error)}", markup=False)
        sys.exit(BAD_INPUT)
