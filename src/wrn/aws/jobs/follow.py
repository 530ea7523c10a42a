"""Following a job until it ends: polls its state, its log and its checkpoints, and reports them as events.

boto3's own waiter polls every two minutes and reports nothing in between.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from wrn.aws.account.errors import Denied, NoAnswer, NoCredentials, NotThere, Throttled
from wrn.aws.account.session import Session
from wrn.aws.jobs.freshness import Freshness, checkpoint_freshness
from wrn.aws.jobs.job import Job, describe
from wrn.aws.jobs.logs import LogEvent, LogFollower
from wrn.aws.jobs.progress import Money, Phase, Progress, money, phases
from wrn.errors import AwsError

LOOK_SECONDS, STATE_SECONDS, FRESHNESS_SECONDS = 2.0, 5.0, 60.0
"""Poll intervals of the log, the state of the job, and its checkpoints."""

REMIND_SECONDS = 900
"""Before a warning that still applies is repeated."""

SETTLE_SECONDS = 8.0
"""How long the log of a job that just ended must be quiet to be considered complete."""

SETTLE_LONGEST = 60.0
OLD_SECONDS = 300
"""The log of a job that ended longer ago is complete."""

PATIENCE_SECONDS = 900
"""How long AWS may not answer before following ends; the job itself is unaffected."""


class View(Protocol):
    """Shows what happens to people or programs."""

    def lines(self, events: list[LogEvent], several_hosts: bool) -> None: ...
    def phase(self, phase: Phase) -> None: ...
    def epoch(self, figures: dict[str, float]) -> None: ...
    def warn(self, text: str) -> None: ...
    def state(self, state: State) -> None: ...
    def close(self) -> None: ...


@dataclass
class State:
    """What is known of a job at the time `now` (seconds since 1970)."""

    job: Job
    progress: Progress
    money: Money
    now: float
    freshness: Freshness | None = None
    warnings: list[str] = field(default_factory=list)


class Follower:
    """Follows a job. `step` polls once; `run` polls until the end."""

    def __init__(
        self,
        session: Session,
        name: str,
        view: View,
        *,
        ceiling: float | None = None,
        clock: Callable[[], float] = time.time,
        look: float = LOOK_SECONDS,
        settle: float = SETTLE_SECONDS,
    ) -> None:
        """ceiling: US dollars that the job may cost at most, if known. look: seconds between polls of the log.

        Raises NotThere, with similar names, if there is no such job.
        """
        self._session, self._view, self._clock = session, view, clock
        self._ceiling, self._look, self._settle = ceiling, look, settle
        self._log = LogFollower(session, name, clock=clock)
        self._progress = Progress()
        self._told: dict[tuple[str, float], str] = {}
        self._freshness: Freshness | None = None
        self._warned = self._looked_at_checkpoints = float("-inf")
        self._failing_since: float | None = None
        self._may_look_at_checkpoints = True
        self.name = name
        self.job = describe(session, name)
        self._described = clock()

    def run(self, wait: Callable[[float], bool]) -> bool:
        """Follow until the job is over. `wait(seconds)` sleeps, and returns whether the user wants to leave.

        True if the job is over, False if the user left; then `run` can be called again. Raises AwsError.
        """
        while True:
            self.step()
            if self.job.is_over:
                self._finish(wait)
                return True
            if wait(self._look):
                return False

    def step(self) -> None:
        """Poll once. Transient network errors are waited out; others are raised."""
        try:
            now = self._clock()
            if now - self._described >= max(self._look, min(STATE_SECONDS, 2.5 * self._look)):
                self.job = describe(self._session, self.name)
                self._described = now
            self._show(self._log.poll())
            self._look_at_checkpoints(now)
        except (Throttled, NoAnswer) as error:
            self._bear(error)
        except NoCredentials as error:
            raise NoCredentials(f"{error}; the job keeps running: `wrn logs -f {self.name}` follows it again") from None
        else:
            if self._failing_since is not None:
                self._view.warn("AWS answers again; no log lines were lost")
            self._failing_since = None
        self._view.state(self.state())

    def use(self, view: View) -> None:
        """Continue in another view."""
        self._view = view

    def state(self) -> State:
        now = self._clock()
        costs = money(self.job, now, ceiling=self._ceiling)
        return State(self.job, self._progress, costs, now, self._freshness)

    def _show(self, events: list[LogEvent]) -> None:
        """Show lines and phases in order of time."""
        for phase in phases(self.job):
            key = (phase.status, phase.start)
            if self._told.get(key) == phase.message:
                continue
            if key not in self._told:
                before = [event for event in events if event.timestamp < 1000 * phase.start]
                self._show_lines(before)
                events = events[len(before) :]
            self._told[key] = phase.message
            self._view.phase(phase)
        self._show_lines(events)

    def _show_lines(self, events: list[LogEvent]) -> None:
        if not events:
            return
        self._view.lines(events, len(self._log.hosts) > 1)
        for figures in self._progress.take(events):
            self._view.epoch(figures)

    def _look_at_checkpoints(self, now: float) -> None:
        if not self._may_look_at_checkpoints or now - self._looked_at_checkpoints < FRESHNESS_SECONDS:
            return
        try:
            found = checkpoint_freshness(self._session, self.job, self._progress)
        except (Denied, NotThere) as error:
            self._may_look_at_checkpoints = False
            self._view.warn(f"cannot tell whether checkpoints arrive in S3: {error}")
            return
        if found is not None:
            self._looked_at_checkpoints = now
        was_late = self._freshness is not None and self._freshness.is_late
        self._freshness = found
        if found is not None and found.is_late:
            if now - self._warned >= REMIND_SECONDS:
                self._view.warn(found.warning)
                self._warned = now
        elif was_late and found is not None:
            self._view.warn("checkpoints arrive in S3 again")
            self._warned = float("-inf")

    def _bear(self, error: AwsError) -> None:
        now = self._clock()
        if self._failing_since is None:
            self._failing_since = now
            until = time.strftime("%H:%M:%S", time.localtime(now + PATIENCE_SECONDS))
            self._view.warn(f"{error}; the job keeps running, and AWS is asked again until {until}; Ctrl-C leaves")
        elif now - self._failing_since > PATIENCE_SECONDS:
            raise AwsError(f"{error}; the job keeps running: `wrn logs -f {self.name}` follows it again")

    def _finish(self, wait: Callable[[float], bool]) -> None:
        """Wait for the last lines: they reach CloudWatch some seconds after they were written."""
        began = quiet_since = self._clock()
        settle = 0.0 if began - (self.job.ended or began) > OLD_SECONDS else self._settle
        while True:
            try:
                events = self._log.drain()
            except (Throttled, NoAnswer) as error:
                self._bear(error)
                events = []
            now = self._clock()
            if events:
                self._show(events)
                self._view.state(self.state())
                quiet_since = now
            if now - quiet_since >= settle or now - began > SETTLE_LONGEST:
                break
            if wait(min(self._look, settle)):
                break
        with contextlib.suppress(Throttled, NoAnswer):
            self.job = describe(self._session, self.name)  # BillableTimeInSeconds comes a little after the end
        self._show([])
        self._view.state(self.state())
