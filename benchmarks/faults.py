"""Kill a training run again and again, and show what it cost: kills, steps repeated, bytes that differ in the end.

    python benchmarks/faults.py --data-dir data --kills 50 --output benchmarks/results/X.json

A small run on real images is trained once undisturbed. Then the same run is killed with SIGKILL at random moments:
while it loads data, takes steps, evaluates, writes a checkpoint and exports the model. After each kill the same
command is started again. In the end the model and the history must be those of the undisturbed run, byte for byte,
and no kill may have cost more than the time between two checkpoints and the longest step.
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

from wrn.benchmarking.environment import environment, write_json
from wrn.benchmarking.timing import spread
from wrn.cli.values import writable
from wrn.training.checkpoint import CheckpointStore

PHASES = ("loading", "stepping", "evaluating", "writing", "exporting")
"""What a run may be doing when it is killed."""
FIELDS = ("phase", "writing", "steps", "began", "asked", "longest")
"""Of a progress file: index in PHASES; a checkpoint is being written; steps of the whole run; when training began; when
it last asked whether a checkpoint is due, and the longest time between two such moments."""
TIMING = {"images_per_s", "mfu", "memory_gb", "seconds"}


@dataclass(frozen=True)
class Kill:
    """One kill: in which phase, after how many steps of the run, how many of them it cost, and their time.

    seconds_lost: from the checkpoint that the run goes on from, or from when the killed process began to train where
    that was later, to the kill; 0 where no step was lost, as when the finished run was being scored.
    longest_step_s: the longest time in which the killed process could begin no checkpoint: a step, or what a machine
    that stalls makes of one. A kill may cost so much more than the interval, and no more.
    """

    phase: str
    step: int
    resumed_from: int
    steps_lost: int
    seconds_lost: float
    longest_step_s: float


class Progress:
    """A small file in which a run tells what it is doing, read by the one that kills it.

    Each field is written alone, in one piece: the run's threads never undo what the other wrote.
    """

    def __init__(self, path: Path) -> None:
        if not path.exists():
            path.write_bytes(bytes(8 * len(FIELDS)))
        with path.open("r+b") as file:
            self._view = mmap.mmap(file.fileno(), 8 * len(FIELDS))

    def tell(self, **values: float) -> None:
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
            progress.tell(phase=PHASES.index(phase))
            try:
                return original(*arguments, **keys)
            finally:
                progress.tell(phase=before)

        setattr(module, name, wrapper)

    train, ask = trainer.Trainer.run, trainer.Trainer._save_if_due
    take, write = step.TrainStep.__call__, checkpoint.write_checkpoint

    def begun(self: Any, stop: Any) -> None:
        now = time.time()
        progress.tell(steps=self._step, began=now, asked=now, longest=0.0)
        train(self, stop)

    def asked(self: Any) -> None:
        now = time.time()
        progress.tell(longest=max(progress.read("longest"), now - progress.read("asked")), asked=now)
        ask(self)

    def counted(self: Any, number: int, batch: Any) -> None:
        progress.tell(phase=PHASES.index("stepping"))
        take(self, number, batch)
        progress.tell(steps=number + 1)

    def written(*arguments: Any) -> None:
        progress.tell(writing=1)
        try:
            write(*arguments)
        finally:
            progress.tell(writing=0)

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
    """A process of the run; it begins by loading, whatever the one before it was killed in."""
    progress.tell(phase=PHASES.index("loading"), writing=0, began=0.0)
    command = [sys.executable, __file__, "--child", str(path), "--", *flags]
    # One thread: the moments of the kills are then spread over the run's own work, not over thread switches.
    quiet = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, env=quiet, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def kill_in(phase: str, process: subprocess.Popen[str], progress: Progress, draws: random.Random) -> float | None:
    """SIGKILL while the run is in that phase; the moment of it. None when the run ended before that came."""
    worked = 0.0
    enough = draws.uniform(0.0, 4.0) if phase == "stepping" else 0.0
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
    """What a kill cost that struck at that moment, from the newest whole checkpoint in the run's folder."""
    phase, step, began = progress.phase, int(progress.read("steps")), progress.read("began")
    newest = CheckpointStore(run / "checkpoints", 2, print).newest()
    resumed_from, saved = (newest[1].step, newest[1].state["time"]) if newest is not None else (0, 0.0)
    if not began:  # it was still loading: no work of its own to lose
        return Kill(phase, resumed_from, resumed_from, 0, 0.0, 0.0)
    lost = step - resumed_from
    longest = max(progress.read("longest"), moment - progress.read("asked"))
    return Kill(phase, step, resumed_from, lost, moment - max(began, saved) if lost else 0.0, longest)


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
    path, run = folder / "progress", folder / "killed"
    progress = Progress(path)
    started = time.monotonic()
    peaceful = start(progress, path, flags_of(folder / "peaceful", data_dir, dataset, interval_s, images))
    output, _ = peaceful.communicate()
    assert peaceful.returncode == 0, output
    peace_seconds = time.monotonic() - started

    struck: list[Kill] = []
    starts, finished = 0, False
    expected: int | None = None  # the step that the next process goes on from
    started = time.monotonic()
    while not (finished and len(struck) >= kills):
        # Mostly stepping: a run that is only killed while loading would never get on.
        phase = draws.choice((*PHASES, "stepping", "stepping"))
        process = start(progress, path, flags_of(run, data_dir, dataset, interval_s, images))
        starts += 1
        moment = kill_in(phase, process, progress, draws) if len(struck) < kills else None
        output, _ = process.communicate()
        at = resumed_at(output)
        if None not in (at, expected) and at != expected:
            raise SystemExit(f"it went on from step {at}, not from the newest checkpoint's {expected}")
        if moment is not None:
            struck.append(cost_of(moment, progress, run))
            expected = struck[-1].resumed_from
        elif process.returncode != 0:
            raise SystemExit(f"exit code {process.returncode} after a kill:\n{output}")
        finished = moment is None
        if finished and len(struck) < kills:  # it came to its end between two kills: on with another run of the same
            assert outcome(run) == outcome(folder / "peaceful")
            run.rename(folder / f"killed-{starts}")
            expected = None
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
    parser.add_argument("--output", type=writable, help="where to write the figures as JSON")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = torment(Path(folder), args.data_dir, args.dataset, args.kills, args.interval, args.images)
    print(report(result, args.interval))
    if args.output:
        settings = {"benchmark": "faults", "interval_s": args.interval, "images": args.images, "dataset": args.dataset}
        write_json(args.output, {**settings, **result, "environment": environment()})
    beyond = [kill for kill in result["kills"] if kill["seconds_lost"] > args.interval + kill["longest_step_s"]]
    if beyond:
        sys.exit(f"a kill cost more than the interval and a step: {beyond}")
    if result["bytes_differing"] or result["history_differs"]:
        sys.exit("the run with kills did not end as the undisturbed one")


if __name__ == "__main__":
    main()
