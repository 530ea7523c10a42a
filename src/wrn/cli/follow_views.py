"""How a followed job is shown: a live panel under the log at a terminal, plain lines elsewhere, or JSON lines."""

from __future__ import annotations

import re
import sys
import time
from typing import Any

from wrn.aws.jobs.follow import State, View
from wrn.aws.jobs.logs import LogEvent
from wrn.aws.jobs.progress import Money, Phase, parse_epoch, phase_text
from wrn.cli.report import percent
from wrn.strict_json import to_json
from wrn.text import duration

CONTROL = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""Escape sequences and control characters that could affect the terminal; tabs stay."""


def clean(message: str) -> str:
    """A log line without control characters and escape sequences."""
    return CONTROL.sub("", message.rstrip("\r\n").replace("\n", " "))


def clock(moment: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(moment))


def phase_line(phase: Phase) -> str:
    message = clean(" ".join(phase.message.split())).rstrip(".")
    told = f" ({message})" if message else ""
    return f"{clock(phase.start)}  {phase.text}{told}"


def money_text(costs: Money, *, over: bool = False) -> str:
    """`$0.42 so far, at most $5.00`; when the job is over, `$0.42 of at most $5.00`."""
    most = "" if costs.ceiling is None else f"at most ${costs.ceiling:.2f}"
    if costs.so_far is None:
        return f"price not known{f', {most}' if most else ''}"
    amount = f"{'about ' if costs.estimated else ''}${costs.so_far:.2f}"
    if over:
        return f"{amount} of {most}" if most else amount
    return f"{amount} so far, {most}" if most else f"{amount} so far"


def price_words(costs: Money) -> str:
    """` (US price)` if the price in the job's region is not known, else nothing."""
    return " (US price)" if costs.foreign else ""


def price_json(costs: Money) -> dict[str, Any] | None:
    """The price that an amount is based on; None if none is known."""
    if costs.price is None:
        return None
    return {
        "usd_per_hour": costs.price.usd_per_hour,
        "region": costs.price.region,
        "source": costs.price.source.name,
        "date": costs.price.source.date,
    }


def figures_text(state: State) -> list[str]:
    """Epoch, accuracy, speed and time left, as far as known."""
    progress = state.progress
    if not progress.figures:
        return []
    parts = [f"epoch {progress.epoch}/{progress.epochs}"]
    if progress.top1:
        parts.append(f"{progress.top1[0]} top-1 {percent(progress.top1[1])}")
    if "images_per_s" in progress.figures:
        parts.append(f"{progress.figures['images_per_s']:,.0f} images/s")
    left = progress.seconds_left(state.now)
    if left is not None and not state.job.is_over and progress.epoch < progress.epochs:
        parts.append(f"{duration(left)} left")
    return parts


class PlainView:
    """The log verbatim on standard output; everything else on standard error."""

    def __init__(self) -> None:
        self._shown = 0.0

    def lines(self, events: list[LogEvent], several_hosts: bool) -> None:
        sys.stdout.write("".join(f"{host_mark(event, several_hosts)}{clean(event.message)}\n" for event in events))
        sys.stdout.flush()

    def phase(self, phase: Phase) -> None:
        self._note(phase_line(phase))

    def epoch(self, figures: dict[str, float]) -> None:
        pass  # its line was just shown

    def warn(self, text: str) -> None:
        self._note(f"warning: {text}")

    def state(self, state: State) -> None:
        # One line every five minutes: whoever reads this later wants the log, not a clock.
        if state.now - self._shown >= 300 and state.progress.figures and not state.job.is_over:
            self._shown = state.now
            costs = money_text(state.money) + price_words(state.money)
            self._note(f"{clock(state.now)}  " + ", ".join([*figures_text(state), costs]))

    def close(self) -> None:
        pass

    def _note(self, text: str) -> None:
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()


class JsonView:
    """One JSON object a line: each has a `type`."""

    def lines(self, events: list[LogEvent], several_hosts: bool) -> None:
        for event in events:
            self._write("line", host=event.host, timestamp=event.timestamp, message=event.message)

    def phase(self, phase: Phase) -> None:
        self._write("phase", status=phase.status, text=phase.text, message=phase.message, start=phase.start)

    def epoch(self, figures: dict[str, float]) -> None:
        self._write("epoch", **figures)

    def warn(self, text: str) -> None:
        self._write("warning", text=text)

    def state(self, state: State) -> None:
        pass

    def close(self) -> None:
        pass

    def _write(self, kind: str, **content: Any) -> None:
        sys.stdout.write(to_json({"type": kind, **content}) + "\n")
        sys.stdout.flush()


class RichView:
    """The log scrolls above a panel with the current state."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.live import Live

        self._console = Console(highlight=False)
        self._live = Live(console=self._console, refresh_per_second=4, transient=True)
        self._state: State | None = None
        self._live.start()

    def lines(self, events: list[LogEvent], several_hosts: bool) -> None:
        from rich.text import Text

        shown = []
        for event in events:
            figures = parse_epoch(event.message)
            shown.append(host_mark(event, several_hosts) + (epoch_text(figures) if figures else clean(event.message)))
        # Many at once: each print draws the panel again, which takes a millisecond.
        for start in range(0, len(shown), 1000):
            self._console.print(Text("\n".join(shown[start : start + 1000])), soft_wrap=True)

    def phase(self, phase: Phase) -> None:
        self._console.print(f"{phase_line(phase)}", style="bold cyan", markup=False, soft_wrap=True)

    def epoch(self, figures: dict[str, float]) -> None:
        pass

    def warn(self, text: str) -> None:
        self._console.print(f"warning: {text}", style="bold yellow", markup=False, soft_wrap=True)

    def state(self, state: State) -> None:
        self._state = state
        self._live.update(self._panel(state))

    def close(self) -> None:
        self._live.stop()

    def _panel(self, state: State) -> Any:
        from rich.panel import Panel
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        job = state.job
        machines = f"{job.instances} x {job.instance_type}{' spot' if job.spot else ''}"
        rows: list[Any] = [Text(f"{phase_text(job)}  ({duration(state.now - job.created)} since the start)")]
        if state.progress.figures:
            rows.append(ProgressBar(total=state.progress.epochs, completed=state.progress.epoch, width=50))
            rows.append(Text("  ".join(figures_text(state))))
        price = "  (spot price assumed)" if state.money.estimated else ""
        rows.append(Text(f"{money_text(state.money, over=job.is_over)}{price_words(state.money)}{price}"))
        if state.freshness is not None and state.freshness.age is not None:
            style = "yellow" if state.freshness.is_late else ""
            rows.append(Text(f"newest checkpoint in S3: {duration(state.freshness.age)} old", style=style))
        hint = "waiting for the last lines of the log" if job.is_over else "Ctrl-C: leave or stop the job"
        rows.append(Text(hint, style="dim"))
        grid = Table.grid()
        for row in rows:
            grid.add_row(row)
        # Not up to the last column: there the terminal's own ^C would wrap, and the panel would leave a trace.
        width = min(100, self._console.width - 4)
        return Panel(grid, title=f"{job.name}  {machines}", title_align="left", border_style="cyan", width=width)


def epoch_text(figures: dict[str, float]) -> str:
    """An epoch line for a terminal of 80 columns; the whole line is in the log."""
    parts = [f"epoch {figures['epoch']:>3.0f}/{figures['epochs']:.0f}"]
    if "train_loss" in figures:
        parts.append(f"train loss {figures['train_loss']:.3f}")
    for split in ("val", "test"):
        if f"{split}_top1" in figures:
            parts.append(f"{split} top-1 {figures[f'{split}_top1']:.2%}")
    if "images_per_s" in figures:
        parts.append(f"{figures['images_per_s']:,.0f} images/s")
    return "  ".join(parts)


def host_mark(event: LogEvent, several_hosts: bool) -> str:
    return f"{event.host} | " if several_hosts else ""


def make_view(json_lines: bool) -> View:
    """JSON if asked for; live at a terminal; plain elsewhere."""
    if json_lines:
        return JsonView()
    return RichView() if sys.stdout.isatty() else PlainView()
