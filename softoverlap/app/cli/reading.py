"""The options of every command that reads images or files of boxes: how much a file may take."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Annotated, Any, get_type_hints

import typer

Timeout = Annotated[
    float | None,
    typer.Option(help="Seconds to read one NRRD, MetaImage or DICOM scan; 60 by default."),
]
Memory = Annotated[
    str | None,
    typer.Option(
        metavar="SIZE",
        help="Memory that one file may take, such as 8GB; by default a fourth of all, 1 GiB at "
        "least.",
    ),
]
_OPTIONS = {"read_timeout": Timeout, "max_memory": Memory}


def reads_files(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command `--read-timeout` and `--max-memory`, which hold while it runs."""

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        from softoverlap.images import read_limits

        with read_limits(**{name: kwargs.pop(name, None) for name in _OPTIONS}):
            command(*args, **kwargs)

    hints = {**get_type_hints(command, include_extras=True), **_OPTIONS}
    own = inspect.signature(command).parameters.values()
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    more = [inspect.Parameter(name, kind, default=None) for name in _OPTIONS]
    parameters = [each.replace(annotation=hints[each.name]) for each in (*own, *more)]
    run.__annotations__ = hints
    run.__dict__["__signature__"] = inspect.Signature(parameters, return_annotation=None)
    return run
