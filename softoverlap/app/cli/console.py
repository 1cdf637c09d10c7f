"""What commands print: progress bars on a terminal, plain lines elsewhere, short errors."""

from __future__ import annotations

import functools
import os
import time
import traceback
import warnings
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, ParamSpec, TypeVar

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, TaskProgressColumn, TextColumn
from rich.table import Table
from rich.text import Text

from softoverlap.app.cli.flags import flag_of, in_flags, running
from softoverlap.app.cli.interrupts import finish_first, hear_interrupts, stop_if_interrupted
from softoverlap.app.figures import plural

if TYPE_CHECKING:
    from softoverlap.app.train import Evaluation, Progress as TrainingProgress
    from softoverlap.images import Unpaired

_P = ParamSpec("_P")
_AnyBar = TypeVar("_AnyBar", bound="_Bar")
SOME_FAILED, BAD_INPUT, UNFORESEEN, INTERRUPTED = 1, 2, 3, 130

console = Console(soft_wrap=True, highlight=False)
errors = Console(stderr=True, soft_wrap=True, highlight=False)


def say(text: str) -> None:
    """Print a line without markup."""
    console.print(_printable(text), markup=False)


def _printable(text: str) -> str:
    """The text with options for arguments, and escapes for bytes that are not UTF-8."""
    return in_flags(text).encode("utf-8", "backslashreplace").decode("utf-8")


def say_left_out(files: Iterable[Unpaired]) -> None:
    """One line on what folders hold that is not read, by the reason."""
    names: dict[str, list[str]] = {}
    for file in files:
        names.setdefault(file.reason, []).append(file.path.name)
    parts = []
    for reason, left in names.items():
        shown = ", ".join(left[:5]) + (f" and {len(left) - 5} more" if len(left) > 5 else "")
        parts.append(f"{shown} ({reason})")
    if parts:
        say(f"left out: {'; '.join(parts)}")


def message_of(error: Exception) -> str:
    """What went wrong, on one line, in the words of the running command."""
    text = " ".join((str(error) or type(error).__name__).split())
    argument = getattr(error, "argument", "")
    if argument and text.startswith(argument):
        text = (flag_of(argument) or argument) + text[len(argument) :]
    return in_flags(text)


def one_line_warning(message: Warning | str, *origin: object, **more: object) -> None:
    """Print a warning without its position in the code."""
    errors.print(_printable(f"warning: {' '.join(str(message).split())}"), markup=False)


def one_line_errors(command: Callable[_P, None]) -> Callable[_P, None]:
    """Bad input ends the command with one line and status 2, Ctrl-C with status 130.

    How Ctrl-C is handled is in `softoverlap.app.cli.interrupts`.
    Any other error is unexpected: its traceback is shown, and the status is 3, since 1 means that
    some cases failed. With `SOFTOVERLAP_TRACEBACK=1` in the environment, the traceback of bad input
    is shown too.
    """

    @functools.wraps(command)
    def run(*args: _P.args, **kwargs: _P.kwargs) -> None:
        with running(command):
            try:
                with hear_interrupts(), warnings.catch_warnings():
                    warnings.showwarning = one_line_warning
                    command(*args, **kwargs)
            except KeyboardInterrupt as stop:
                text = ": ".join(["interrupted", *map(str, stop.args)])
                errors.print(_printable(text), markup=False)
                raise typer.Exit(INTERRUPTED) from None
            except (ValueError, TypeError, OSError, ImportError) as error:
                _print_error(error, whole=bool(os.environ.get("SOFTOVERLAP_TRACEBACK")))
                raise typer.Exit(BAD_INPUT) from None
            except (typer.Exit, typer.Abort, typer.BadParameter):  # a command's own end
                raise
            except Exception as error:
                _print_error(error, whole=True)
                raise typer.Exit(UNFORESEEN) from None

    return run


def _print_error(error: Exception, *, whole: bool) -> None:
    """One line with the message, after the traceback if it is wanted."""
    if whole:
        text = "".join(traceback.format_exception(error))
        errors.print(_printable(text), markup=False, end="")
    errors.print(_printable(f"error: {message_of(error)}"), markup=False)


class _Bar:
    """A bar on a terminal, called between two cases: there Ctrl-C stops the command."""

    def __init__(self, label: str, total: float | int, *columns: ProgressColumn) -> None:
        self.label, self.open = label, ExitStack()
        columns = (TextColumn(label), BarColumn(), *columns)
        self.bar = Progress(*columns, console=console, disable=not console.is_terminal)
        self.task = self.bar.add_task(label, total=total, text="")

    def __enter__(self: _AnyBar) -> _AnyBar:
        self.open.enter_context(finish_first("case"))
        self.open.enter_context(self.bar)
        return self

    def __exit__(self, *exception: object) -> None:
        self.open.close()


class TrainingBar(_Bar):
    """Step, losses and time left of a training, as `train` calls it."""

    def __init__(self, label: str = "training") -> None:
        super().__init__(label, 1.0, TaskProgressColumn(), TextColumn("{task.fields[text]}"))
        self.steps, self.tenths, self.sum = 0, 0, 0.0

    def __enter__(self) -> TrainingBar:
        self.open.enter_context(self.bar)
        return self

    def __call__(self, state: TrainingProgress) -> None:
        """Show the state after a step; without a terminal, print a line every tenth of the run."""
        if not self.steps:
            self.open.enter_context(finish_first("step"))
        if not self.steps and state.step > 1:  # resumed: no line about a single step
            self.tenths = min(int(10 * state.done), 9)
        self.steps, self.sum = self.steps + 1, 0.97 * self.sum + 0.03 * state.loss
        smooth = self.sum / (1 - 0.97**self.steps)  # else the first losses count for too little
        text = (
            f"step {state.step}/{state.steps}  loss {smooth:.3f}  {clock(state.seconds_left)} left"
        )
        self.bar.update(self.task, completed=state.done, text=text)
        if not console.is_terminal and int(10 * state.done) > self.tenths:
            self.tenths = int(10 * state.done)
            say(f"{self.label}: {text}")
        stop_if_interrupted()
        if state.done >= 1:  # what comes after the training has steps of its own
            self.open.close()


class CountBar(_Bar):
    """Progress as a number of scans."""

    def __init__(self, label: str, total: int, *, quiet: bool = False) -> None:
        super().__init__(label, total, TextColumn("{task.completed}/{task.total}"))
        self.total, self.count, self.quiet = total, 0, quiet

    def __call__(self, text: str) -> None:
        """Count one more; without a terminal, print a line."""
        self.count += 1
        self.bar.update(self.task, advance=1)
        if not (console.is_terminal or self.quiet):
            say(f"{self.label} {self.count}/{self.total}: {text}")
        stop_if_interrupted()


class RateBar(_Bar):
    """Progress as a number of cases, with the rate and the time left.

    Without a terminal, it prints a line every twentieth of the cases, and one for each failure.
    """

    def __init__(self, label: str, total: int) -> None:
        columns = TextColumn("{task.completed}/{task.total}"), TextColumn("{task.fields[text]}")
        super().__init__(label, total, *columns)
        self.total, self.count, self.skipped = total, 0, 0
        self.begun, self.twentieths = time.monotonic(), 0

    def skip(self, count: int) -> None:
        """Start with cases that are finished already; the clock starts now."""
        self.count = self.skipped = count
        self.begun, self.twentieths = time.monotonic(), 20 * count // self.total
        self.bar.update(self.task, completed=count)
        if count:
            say(f"{self.label}: {count}/{self.total} are finished already")

    def __call__(self, name: str, error: str | None = None) -> None:
        """Count one more."""
        self.count += 1
        rate = (self.count - self.skipped) / max(time.monotonic() - self.begun, 1e-9)
        text = f"{rate:.2g} a second, {clock((self.total - self.count) / rate)} left"
        self.bar.update(self.task, completed=self.count, text=text)
        if error is not None:
            say(f"failed: {name}: {error}")
        twentieths = 20 * self.count // self.total
        if not console.is_terminal and twentieths > self.twentieths:
            self.twentieths = twentieths
            say(f"{self.label} {self.count}/{self.total}: {text}")
        stop_if_interrupted()


def clock(seconds: float) -> str:
    """Minutes and seconds."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


_AP = ("AP@0.1", "AP@0.5")


def print_evaluations(evaluations: Mapping[str, Evaluation]) -> None:
    """Print a table with the operating point, CPM and average precision, one row per method."""
    first = next(iter(evaluations.values()))
    scans, lesions = plural(first.froc.scans, "unseen scan"), plural(first.froc.lesions, "lesion")
    table = Table(title=f"{lesions} in {scans}")
    table.add_column("method")
    for name in ("score from", "sensitivity", "precision", "F1", "FP a scan", "CPM", *_AP):
        table.add_column(name, justify="right")
    for name, result in evaluations.items():
        point = result.point
        numbers = [point.threshold, point.sensitivity, point.precision, point.f1]
        numbers += [point.fps_per_scan, result.froc.cpm, result.ap10, result.ap50]
        table.add_row(Text(name), *(f"{number:.3f}" for number in numbers))
    Console(width=None if console.is_terminal else 120, highlight=False).print(table)
