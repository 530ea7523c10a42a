"""Kill a training run repeatedly and measure the cost: steps repeated, seconds lost, bytes that differ in the end.

    python benchmarks/faults.py --data-dir data --kills 50 --output benchmarks/results/X.json

A small run on real images is first trained undisturbed. Then the same run is killed with SIGKILL at random moments:
while it loads data, takes steps, evaluates, writes a checkpoint or exports the model. After each kill the same command
is started again. In the end the model and the history must equal those of the undisturbed run, byte for byte, and no
kill may have cost more than the checkpoint interval plus the longest step.
"""

from __future__ import annotations

import argparse
import json
import mmap
import os
import random
import signal
import struct
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from wrn.bench.environment import environment, write_json
from wrn.bench.timing import spread
from wrn.cli.values import writable
from wrn.training.checkpoint import CheckpointStore

PHASES = ("loading", "stepping", "evaluating", "writing", "exporting")
"""What a run may be doing when it is killed."""
FIELDS = ("phase", "writing", "steps", "began", "asked", "longest")
"""Fields of a progress file: index in PHASES; whether a checkpoint is being written; steps of the whole run; when
training began; when the run last asked whether a checkpoint is due, and the longest time between two such moments."""
TIMING = {"images_per_s", "mfu", "memory_gb", "seconds"}


@dataclass(frozen=True)
class Kill:
    """One kill: the phase, the steps the run had taken, and how many steps and seconds the kill cost.

    seconds_lost: time from the checkpoint that the run resumes from, or from when the killed process began training if
    that was later, to the kill; 0 if no step was lost, as when a finished run was being scored.
    longest_step_s: the longest time in which the killed process could not start a checkpoint: a step, possibly
    prolonged by a stalling machine. A kill may cost at most the interval plus this.
    """

    phase: str
    step: int
    resumed_from: int
    steps_lost: int
    seconds_lost: float
    longest_step_s: float


class Progress:
    """A small file in which a run reports what it is doing, read by the process that kills it.

    Fields are written separately, so the run's threads never overwrite each other's.
    """

    def __init__(self, path: Path) -> None:
        if not path.exists():
            path.write_bytes(bytes(8 * len(FIELDS)))
        with path.open("r+b") as file:
            self._view = mmap.mmap(file.fileno(), 8 * len(FIELDS))

    def write(self, **values: float) -> None:
        for name, value in values.items():
            struct.pack_into("d", self._view, 8 * FIELDS.index(name), value)

    def read(self, name: str) -> float:
        return float(struct.unpack_from("d", self._view, 8 * FIELDS.index(name))[0])

    @property
    def phase(self) -> str:
        return "writing" if self.read("writing") else PHASES[int(self.read("phase"))]


def child(path: Path, flags: list[str]) -> int:
    """`wrn train` that keeps its progress file up to date."""
    from wrn import cli
    from wrn.training import checkpoint, run, step, trainer

    progress = Progress(path)

    def marked(module: Any, name: str, phase: str) -> None:
        original = getattr(module, name)

        def wrapper(*arguments: Any, **keys: Any) -> Any:
            before = progress.read("phase")
            progress.write(phase=PHASES.index(phase))
            try:
                return original(*arguments, **keys)
            finally:
                progress.write(phase=before)

        setattr(module, name, wrapper)

    train, ask = trainer.Trainer.run, trainer.Trainer._save_if_due
    take, write = step.TrainStep.__call__, checkpoint.write_checkpoint

    def begun(self: Any, stop: Any) -> None:
        now = time.time()
        progress.write(steps=self._step, began=now, asked=now, longest=0.0)
        train(self, stop)

    def asked(self: Any) -> None:
        now = time.time()
        progress.write(longest=max(progress.read("longest"), now - progress.read("asked")), asked=now)
        ask(self)

    def counted(self: Any, number: int, batch: Any) -> None:
        progress.write(phase=PHASES.index("stepping"))
        take(self, number, batch)
        progress.write(steps=number + 1)

    def written(*arguments: Any) -> None:
        progress.write(writing=1)
        try:
            write(*arguments)
        finally:
            progress.write(writing=0)

    trainer.Trainer.run = begun  # type: ignore[method-assign]
    trainer.Trainer._save_if_due = asked  # type: ignore[method-assign]
    step.TrainStep.__call__ = counted  # type: ignore[method-assign]
    checkpoint.write_checkpoint = written
    marked(run, "load_data", "loading")
    marked(trainer, "evaluate", "evaluating")
    marked(run, "save_model", "exporting")
    return cli.main(["train", *flags])


def flags_of(run: Path, data_dir: Path, dataset: str, interval_s: float, images: int) -> list[str]:
    values = {
        **{"output-dir": run, "dataset": dataset, "data-dir": data_dir, "download": "false", "train-images": images},
        **{"depth": 10, "widen-factor": 1, "epochs": 8, "batch-size": 50, "warmup-epochs": 1, "val-fraction": 0.1},
        **{"ema-decay": 0.9, "device": "cpu", "checkpoint-minutes": interval_s / 60, "progress": "plain"},
    }
    return [word for key, value in values.items() for word in (f"--{key}", str(value))]


def start(progress: Progress, path: Path, flags: list[str]) -> subprocess.Popen[str]:
    """Start a process of the run; it begins with loading, whatever phase the previous one was killed in."""
    progress.write(phase=PHASES.index("loading"), writing=0, began=0.0)
    command = [sys.executable, __file__, "--child", str(path), "--", *flags]
    # One thread, so that kills are spread over the run's own work, not over thread switches.
    environ = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def kill_in(
    phase: str, process: subprocess.Popen[str], progress: Progress, draws: random.Random, stepping_s: float
) -> float | None:
    """Send SIGKILL while the run is in that phase; returns the time, or None if the run ended first."""
    worked = 0.0
    enough = draws.uniform(0.0, stepping_s) if phase == "stepping" else 0.0
    while process.poll() is None:
        before, now = time.monotonic(), progress.phase
        if now == phase and worked >= enough:
            time.sleep(draws.uniform(0, 0.02))
            moment = time.time()
            process.send_signal(signal.SIGKILL)
            return moment if process.wait() == -signal.SIGKILL else None
        time.sleep(0.0005)
        if now == "stepping":
            worked += time.monotonic() - before
    return None


def cost_of(moment: float, progress: Progress, run: Path) -> Kill:
    """The cost of a kill at that moment, given the newest valid checkpoint in the run's folder."""
    phase, step, began = progress.phase, int(progress.read("steps")), progress.read("began")
    newest = CheckpointStore(run / "checkpoints", 2, print).newest()
    resumed_from, saved = (newest[1].step, newest[1].state["time"]) if newest is not None else (0, 0.0)
    if not began:  # it was still loading, so it had no work of its own to lose
        return Kill(phase, resumed_from, resumed_from, 0, 0.0, 0.0)
    lost = step - resumed_from
    longest = max(progress.read("longest"), moment - progress.read("asked"))
    return Kill(phase, step, resumed_from, lost, moment - max(began, saved) if lost else 0.0, longest)


def outcome(run: Path) -> tuple[bytes, list[dict[str, Any]]]:
    """The model's bytes, and the history without its timings."""
    rows = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
    timeless = [{key: value for key, value in row.items() if key not in TIMING} for row in rows]
    return (run / "model/model.safetensors").read_bytes(), timeless


def resumed_at(output: str) -> int | None:
    """The step that a run reports resuming from; None if it did not get that far."""
    for line in output.splitlines():
        if line.startswith("fresh start"):
            return 0
        if line.startswith("resumed from step"):
            return int(line.split()[3])
    return None


def differing(one: bytes, other: bytes) -> int:
    return sum(a != b for a, b in zip(one, other, strict=False)) + abs(len(one) - len(other))


def inject_kills(
    folder: Path, data_dir: Path, dataset: str, kills: int, interval_s: float, images: int, stepping_s: float = 4.0
) -> dict[str, Any]:
    """Train once undisturbed and once with this many kills; returns the figures.

    stepping_s: a process that is killed between steps has taken steps for at most this long.
    """
    draws = random.Random(0)
    path, run = folder / "progress", folder / "killed"
    progress = Progress(path)
    started = time.monotonic()
    undisturbed = start(progress, path, flags_of(folder / "undisturbed", data_dir, dataset, interval_s, images))
    output, _ = undisturbed.communicate()
    assert undisturbed.returncode == 0, output
    undisturbed_seconds = time.monotonic() - started

    struck: list[Kill] = []
    starts, finished = 0, False
    expected: int | None = None  # the step that the next process must resume from
    started = time.monotonic()
    while not (finished and len(struck) >= kills):
        # Mostly stepping: a run that is only killed while loading would make no progress.
        phase = draws.choice((*PHASES, "stepping", "stepping"))
        process = start(progress, path, flags_of(run, data_dir, dataset, interval_s, images))
        starts += 1
        moment = kill_in(phase, process, progress, draws, stepping_s) if len(struck) < kills else None
        output, _ = process.communicate()
        at = resumed_at(output)
        if None not in (at, expected) and at != expected:
            raise SystemExit(f"the run resumed from step {at}, not from step {expected} of the newest checkpoint")
        if moment is not None:
            struck.append(cost_of(moment, progress, run))
            expected = struck[-1].resumed_from
        elif process.returncode != 0:
            raise SystemExit(f"exit code {process.returncode} after a kill:\n{output}")
        finished = moment is None
        if finished and len(struck) < kills:  # it finished before all kills: start the same run again
            assert outcome(run) == outcome(folder / "undisturbed")
            run.rename(folder / f"killed-{starts}")
            expected = None
    model, history = outcome(folder / "killed")
    undisturbed_model, undisturbed_history = outcome(folder / "undisturbed")
    return {
        "kills": [asdict(kill) for kill in struck],
        "starts": starts,
        "bytes_differing": differing(model, undisturbed_model),
        "history_differs": history != undisturbed_history,
        "seconds_undisturbed": undisturbed_seconds,
        "seconds_with_kills": time.monotonic() - started,
    }


def report(result: dict[str, Any], interval_s: float) -> str:
    kills = [Kill(**kill) for kill in result["kills"]]
    lines = [
        "| killed while | kills | steps lost, median (most) | seconds lost, most | longest step, s |",
        "| --- | --- | --- | --- | --- |",
    ]
    for phase in PHASES:
        of_phase = [kill for kill in kills if kill.phase == phase]
        if of_phase:
            steps = spread([float(kill.steps_lost) for kill in of_phase])
            seconds = max(kill.seconds_lost for kill in of_phase)
            longest = max(kill.longest_step_s for kill in of_phase)
            lines.append(
                f"| {phase} | {len(of_phase)} | {steps['median']:.0f} ({steps['max']:.0f}) | {seconds:.2f} "
                f"| {longest:.2f} |"
            )
    history = "DIFFERS" if result["history_differs"] else "is equal"
    repeated = sum(kill.steps_lost for kill in kills)
    lines += [
        f"{len(kills)} kills, {result['starts']} starts, {repeated} steps redone; a checkpoint every {interval_s:g} s",
        f"{result['bytes_differing']} bytes of the model differ; the history {history}",
    ]
    return "\n".join(lines)


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        sys.exit(child(Path(sys.argv[2]), sys.argv[4:]))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--dataset", default="cifar100")
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--interval", type=float, default=1.5, help="seconds between checkpoints")
    parser.add_argument("--images", type=int, default=2000, help="training images of the small run")
    parser.add_argument("--output", type=writable, help="write the results to this JSON file")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = inject_kills(Path(folder), args.data_dir, args.dataset, args.kills, args.interval, args.images)
    print(report(result, args.interval))
    if args.output:
        settings = {"benchmark": "faults", "interval_s": args.interval, "images": args.images, "dataset": args.dataset}
        write_json(args.output, {**settings, **result, "environment": environment()})
    beyond = [kill for kill in result["kills"] if kill["seconds_lost"] > args.interval + kill["longest_step_s"]]
    if beyond:
        sys.exit(f"a kill cost more than the interval and a step: {beyond}")
    if result["bytes_differing"] or result["history_differs"]:
        sys.exit("the killed run's result differs from the undisturbed one's")


if __name__ == "__main__":
    main()
