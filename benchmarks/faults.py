"""Kill a training run again and again, and show what it cost: kills, steps repeated, bytes that differ in the end.

    python benchmarks/faults.py --data-dir data --kills 50 --output benchmarks/results/X.json

A small run on real images is trained once undisturbed. Then the same run is killed with SIGKILL at random moments:
while it loads data, takes steps, evaluates, writes a checkpoint and exports the model. After each kill the same
command is started again. In the end the model and the history must be those of the undisturbed run, byte for byte,
and no kill may have cost more than the time between two checkpoints.
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
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from wrn.benchmarking.environment import environment, write_json
from wrn.benchmarking.timing import spread

PHASES = ("loading", "stepping", "evaluating", "writing", "exporting")
"""What a run may be doing when it is killed; a run tells by their number in its progress file."""
RECORD = struct.Struct("<qqd")
"""A progress file: phase, steps taken by now (of the whole run), time of the last whole checkpoint."""
TIMING = {"images_per_s", "mfu", "memory_gb", "seconds"}


@dataclass(frozen=True)
class Kill:
    """One kill: in which phase, at which step, how many steps it cost, and how long they had taken.

    seconds_lost: from the moment of the checkpoint that the run went on from to the kill; 0 where no step was lost,
    as when the finished run was being scored.
    """

    phase: str
    step: int
    resumed_from: int
    steps_lost: int
    seconds_lost: float


def child(progress: Path, flags: list[str]) -> int:
    """`wrn train` that keeps its progress file up to date."""
    from wrn import cli
    from wrn.training import checkpoint, run, selection, step, trainer

    with progress.open("r+b") as file:
        view = mmap.mmap(file.fileno(), RECORD.size)

    def tell(phase: str | None = None, steps: int | None = None, saved: float | None = None) -> None:
        old_phase, old_steps, old_saved = RECORD.unpack(view[:])
        number = old_phase if phase is None else PHASES.index(phase)
        view[:] = RECORD.pack(number, old_steps if steps is None else steps, old_saved if saved is None else saved)

    def marked(module: Any, name: str, phase: str) -> None:
        original = getattr(module, name)

        def wrapper(*arguments: Any, **keys: Any) -> Any:
            before = PHASES[RECORD.unpack(view[:])[0]]
            tell(phase)
            try:
                return original(*arguments, **keys)
            finally:
                tell(before)

        setattr(module, name, wrapper)

    take = step.TrainStep.__call__

    began = False

    def counted(self: Any, number: int, batch: Any) -> None:
        nonlocal began
        # What is lost at a kill was done since the last checkpoint, or since this process began.
        tell("stepping", number, None if began else time.time())
        began = True
        take(self, number, batch)
        tell("stepping", number + 1)

    write = checkpoint.write_checkpoint

    def timed(path: Path, what: Any) -> None:
        write(path, what)
        if "time" in what.state:
            tell(saved=what.state["time"])

    step.TrainStep.__call__ = counted  # type: ignore[method-assign]
    checkpoint.write_checkpoint = selection.write_checkpoint = timed
    marked(checkpoint, "write_checkpoint", "writing")
    marked(run, "load_data", "loading")
    marked(trainer, "evaluate", "evaluating")
    marked(run, "save_model", "exporting")
    tell("loading")
    return cli.main(["train", *flags])


class Progress:
    """The other side of the progress file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.write_bytes(RECORD.pack(0, 0, 0.0))
        with path.open("r+b") as file:
            self._view = mmap.mmap(file.fileno(), RECORD.size)

    def begin(self) -> None:
        """A process starts: it loads, whatever the one before it was killed in."""
        _, steps, saved = RECORD.unpack(self._view[:])
        self._view[:] = RECORD.pack(PHASES.index("loading"), steps, saved)

    def read(self) -> tuple[str, int, float]:
        phase, steps, saved = RECORD.unpack(self._view[:])
        return PHASES[phase], steps, saved


def flags_of(run: Path, data_dir: Path, dataset: str, interval_s: float, images: int) -> list[str]:
    values = {
        **{"output-dir": run, "dataset": dataset, "data-dir": data_dir, "download": "false", "train-images": images},
        **{"depth": 10, "widen-factor": 1, "epochs": 8, "batch-size": 50, "warmup-epochs": 1, "val-fraction": 0.1},
        **{"ema-decay": 0.9, "device": "cpu", "checkpoint-minutes": interval_s / 60, "progress": "plain"},
    }
    return [word for key, value in values.items() for word in (f"--{key}", str(value))]


def start(progress: Progress, flags: list[str]) -> subprocess.Popen[str]:
    progress.begin()
    command = [sys.executable, __file__, "--child", str(progress.path), "--", *flags]
    # One thread: the moments of the kills are then spread over the run's own work, not over thread switches.
    quiet = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, env=quiet, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def kill_in(phase: str, process: subprocess.Popen[str], progress: Progress, draws: random.Random) -> bool:
    """SIGKILL while the run is in that phase; False when it ended before that came."""
    worked = 0.0
    enough = draws.uniform(0.0, 4.0) if phase == "stepping" else 0.0
    while process.poll() is None:
        before, now = time.monotonic(), progress.read()[0]
        if now == phase and worked >= enough:
            time.sleep(draws.uniform(0, 0.02))
            process.send_signal(signal.SIGKILL)
            process.wait()
            return True
        time.sleep(0.0005)
        if now == "stepping":
            worked += time.monotonic() - before
    return False


def outcome(run: Path) -> tuple[bytes, list[dict[str, Any]]]:
    """The model's bytes, and the history without what depends on the clock."""
    rows = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
    timeless = [{key: value for key, value in row.items() if key not in TIMING} for row in rows]
    return (run / "model/model.safetensors").read_bytes(), timeless


def resumed_at(output: str) -> int | None:
    """The step that a run says it went on from; None where it did not come so far."""
    for line in output.splitlines():
        if line.startswith("fresh start"):
            return 0
        if line.startswith("resumed from step"):
            return int(line.split()[3])
    return None


def differing(one: bytes, other: bytes) -> int:
    return sum(a != b for a, b in zip(one, other, strict=False)) + abs(len(one) - len(other))


def torment(folder: Path, data_dir: Path, dataset: str, kills: int, interval_s: float, images: int) -> dict[str, Any]:
    """Train once in peace and once with so many kills; what happened."""
    draws = random.Random(0)
    progress = Progress(folder / "progress")
    started = time.monotonic()
    peaceful = start(progress, flags_of(folder / "peaceful", data_dir, dataset, interval_s, images))
    output, _ = peaceful.communicate()
    assert peaceful.returncode == 0, output
    peace_seconds = time.monotonic() - started

    struck: list[Kill] = []
    waiting: Kill | None = None  # the kill whose cost the next line about resuming tells
    flags = flags_of(folder / "killed", data_dir, dataset, interval_s, images)
    progress = Progress(folder / "progress")
    starts, finished = 0, False
    started = time.monotonic()
    while not (finished and len(struck) >= kills):
        # Mostly stepping: a run that is only killed while loading would never get on.
        phase = draws.choice((*PHASES, "stepping", "stepping"))
        process = start(progress, flags)
        starts += 1
        kill = None
        if len(struck) < kills and kill_in(phase, process, progress, draws):
            _, steps, saved = progress.read()
            kill = Kill(phase, steps, steps, 0, max(0.0, time.time() - saved) if phase != "loading" else 0.0)
        output, _ = process.communicate()
        at = resumed_at(output)
        if waiting is not None and at is not None:
            lost = waiting.step - at
            seconds = waiting.seconds_lost if lost else 0.0
            struck[struck.index(waiting)] = replace(waiting, resumed_from=at, steps_lost=lost, seconds_lost=seconds)
            waiting = None
        if kill is not None:
            struck.append(kill)
            waiting = kill if kill.phase != "loading" else waiting
        elif process.returncode != 0:
            raise SystemExit(f"exit code {process.returncode} after a kill:\n{output}")
        finished = kill is None
        if finished and len(struck) < kills:  # it came to its end between two kills: on with another run of the same
            assert outcome(folder / "killed") == outcome(folder / "peaceful")
            (folder / "killed").rename(folder / f"killed-{starts}")
            progress = Progress(folder / "progress")
    model, history = outcome(folder / "killed")
    peace_model, peace_history = outcome(folder / "peaceful")
    return {
        "kills": [asdict(kill) for kill in struck],
        "starts": starts,
        "bytes_differing": differing(model, peace_model),
        "history_differs": history != peace_history,
        "seconds_undisturbed": peace_seconds,
        "seconds_with_kills": time.monotonic() - started,
    }


def report(result: dict[str, Any], interval_s: float) -> str:
    kills = [Kill(**kill) for kill in result["kills"]]
    lines = ["| killed while | kills | steps lost, median (most) | seconds lost, most |", "| --- | --- | --- | --- |"]
    for phase in PHASES:
        of_phase = [kill for kill in kills if kill.phase == phase]
        if of_phase:
            steps = spread([float(kill.steps_lost) for kill in of_phase])
            seconds = max(kill.seconds_lost for kill in of_phase)
            lines.append(f"| {phase} | {len(of_phase)} | {steps['median']:.0f} ({steps['max']:.0f}) | {seconds:.2f} |")
    history = "DIFFERS" if result["history_differs"] else "is equal"
    repeated = sum(kill.steps_lost for kill in kills)
    lines += [
        f"{len(kills)} kills, {result['starts']} starts, {repeated} steps repeated; a checkpoint each {interval_s:g} s",
        f"{result['bytes_differing']} bytes of the model differ, the history {history}",
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
    parser.add_argument("--output", type=Path, help="where to write the figures as JSON")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = torment(Path(folder), args.data_dir, args.dataset, args.kills, args.interval, args.images)
    print(report(result, args.interval))
    if args.output:
        settings = {"benchmark": "faults", "interval_s": args.interval, "images": args.images, "dataset": args.dataset}
        write_json(args.output, {**settings, **result, "environment": environment()})
    if result["bytes_differing"] or result["history_differs"]:
        sys.exit("the run with kills did not end as the undisturbed one")


if __name__ == "__main__":
    main()
