"""The command `softoverlap`: parse, call, print."""

from softoverlap.cli.commands import app, main

__all__ = ["app", "main"]
