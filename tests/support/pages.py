"""Pages of the documentation whose commands and code run as they stand, one after the other."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parents[2] / "docs"


def page_text(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def blocks(text: str, *languages: str) -> list[tuple[str, str]]:
    """The language and the text of each block of code of these languages, in their order."""
    return re.findall(rf"```({'|'.join(languages)})\n(.*?)```", text, flags=re.DOTALL)


def commands(text: str) -> list[list[str]]:
    """The words of each command of a block, continued lines joined."""
    lines = text.replace("\\\n", " ").splitlines()
    return [shlex.split(line) for line in lines if line.strip()]


def run_page(
    name: str, run: Callable[[Sequence[str]], None], code: Callable[[str], str] = str
) -> dict[str, Any]:
    """Run a page in the current folder; the names that its Python left.

    `run` is given the words of each command of the ```bash blocks, `code` changes Python before it
    runs, and a block of YAML is written to the file that its first line names. Blocks of other
    languages, such as ```sh, are only shown.
    """
    scope: dict[str, Any] = {}
    for language, text in blocks(page_text(name), "bash", "python", "yaml"):
        if language == "bash":
            for words in commands(text):
                run(words)
        elif language == "yaml":
            Path(re.match(r"# (\S+)\n", text)[1]).write_text(text, encoding="utf-8")
        else:
            exec(compile(code(text), name, "exec"), scope)
    return scope


def pictures(text: str) -> Iterator[Path]:
    """The pictures of a page."""
    for place in re.findall(r"!\[[^\]]+\]\(([^)]+)\)", text):
        yield DOCS / place
