"""The state of a run on a page: plain lines, a table for a terminal, JSON for programs."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from caloforge.pipelines.progress import State, clock
from caloforge.pipelines.status import Status, StepStatus

_COLOURS: dict[State, str] = {
    "waiting": "dim", "pending": "yellow", "running": "cyan", "succeeded": "green", "cached": "green",
    "failed": "bold red", "terminated": "red", "not run": "dim", "unknown": "magenta",
}  # fmt: skip


def status_lines(now: Status) -> list[str]:
    """Return the state of a run as lines that people read."""
    rows = [_row(one) for one in now.steps]
    widths = [max((len(row[column]) for row in rows), default=0) for column in range(3)]
    lines = [_head(now), *(f"note: {note}" for note in now.notes)]
    for title, state, took, note in rows:
        lines.append(f"  {title:<{widths[0]}}  {state:<{widths[1]}}  {took:>{widths[2]}}  {note}".rstrip())
    return [*lines, f"page: {now.link}"]


def status_record(now: Status) -> dict[str, Any]:
    """Return the state of a run as a program reads it; times are ISO 8601, None where they are not known."""

    def step(one: StepStatus) -> dict[str, Any]:
        progress = one.progress
        return {
            "step": one.step.name,
            "family": one.step.family or None,
            "state": progress.state,
            "attempt": progress.attempt,
            "start": progress.start.isoformat() if progress.start else None,
            "end": progress.end.isoformat() if progress.end else None,
            "seconds": None if progress.seconds is None else round(progress.seconds, 1),
            "cause": progress.cause or None,
        }

    return {
        "run_id": now.run_id,
        "name": now.name,
        "state": now.state,
        "causes": list(now.causes),
        "notes": list(now.notes),
        "page": now.link,
        "steps": [step(one) for one in now.steps],
    }


def print_status(now: Status, console: Console) -> None:
    """Print the state of a run: in colours on a terminal, as plain lines elsewhere."""
    if console.is_terminal:
        console.print(_table(now))
    else:
        console.file.write("\n".join(status_lines(now)) + "\n")


@contextmanager
def live_table(console: Console) -> Iterator[Callable[[Status], None]]:
    """Keep a table on a terminal; yields what changes it. Lines of the log go above it."""
    with Live(console=console, refresh_per_second=1, transient=False) as live:
        yield lambda now: live.update(_table(now))


def _row(one: StepStatus) -> tuple[str, str, str, str]:
    progress = one.progress
    took = "" if progress.seconds is None or progress.state == "cached" else clock(progress.seconds)
    attempt = f"attempt {progress.attempt}" if progress.attempt > 1 else ""
    return one.title, progress.state, took, "  ".join(part for part in (attempt, progress.cause) if part)


def _head(now: Status) -> str:
    return f"{now.name}: {now.state}" + (f" ({now.error})" if now.error else "")


def _table(now: Status) -> Group:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True)
    grid.add_column(no_wrap=True)
    grid.add_column(justify="right", no_wrap=True)
    grid.add_column()
    for one in now.steps:
        title, state, took, note = _row(one)
        grid.add_row(Text(f"  {title}"), Text(state, style=_COLOURS[one.progress.state]), took, Text(note))
    notes = [Text(f"note: {note}", style="yellow") for note in now.notes]
    return Group(Text(_head(now), style="bold"), *notes, grid, Text(f"page: {now.link}", style="dim"))
