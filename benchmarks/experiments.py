"""Run the trials of docs/experiments.md, several at once with one thread each, skipping those already recorded.

    python benchmarks/experiments.py --data-dir data --seeds 0 1 2 [--only base cosine]
    python benchmarks/experiments.py --data-dir data --seeds 0 --only gradient-clip-off gradient-clip-5

Each trial trains the base below (the quickstart recipe at the time the trials began) for four epochs on nine tenths of
CIFAR-100's training images, with its own changes, and is scored on the held-out tenth. A trial takes about five minutes
on one core; changes that make an epoch more expensive get fewer epochs, so that all trials take about the same time.
Then: make results.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from record_run import record_of
from wrn.bench.environment import environment, write_json

ROOT = Path(__file__).resolve().parents[1]
RECORDS = ROOT / "benchmarks/results/experiments"

BASE: dict[str, object] = {
    **{"recipe": "quickstart", "dataset": "cifar100", "epochs": 4, "val-fraction": 0.1, "tta": True},
    **{"batch-size": 256, "lr": 0.6, "muon-lr": 0.14, "resolutions": "16:0.45 20:0.27 24:0.18 32:0.10"},
    **{"activation": "relu", "downsampling": "stride", "crop-padding": 2, "schedule": "linear"},
    **{"label-smoothing": 0.1, "warmup-epochs": 0.4},
}
SGD = {"optimizer": "sgd", "lr": 0.4}
TRIALS: dict[str, dict[str, object]] = {
    "base": {},
    "cosine": {"schedule": "cosine"},
    "silu": {"activation": "silu"},
    "silu-pool": {"activation": "silu", "downsampling": "pool"},
    # With learning rates that suit them.
    "batch-128": {"batch-size": 128, "lr": 0.4, "muon-lr": 0.1},
    "batch-512": {"batch-size": 512, "lr": 0.85, "muon-lr": 0.2},
    "12-px-first": {"resolutions": "12:0.25 16:0.3 20:0.2 24:0.15 32:0.10"},
    "32-px": {"resolutions": "", "epochs": 2},
    "sgd": SGD,
    "sgd-lr-0.2": {**SGD, "lr": 0.2},
    "sgd-lr-0.8": {**SGD, "lr": 0.8},
    # Muon keeps each convolution at a fixed norm, so none can start at zero.
    "sgd-zero-init": {**SGD, "zero-init-residual": True},
    "ema": {"ema-decay": 0.98},
    "sam": {"sam-rho": 0.05, "epochs": 2},
    "smoothing-0": {"label-smoothing": 0.0},
    "cutout-8": {"cutout": 8},
    "trivialaugment": {"augment": "trivialaugment"},
    "mixup": {"mixup-alpha": 0.2},
    "muon-lr-0.2": {"muon-lr": 0.2},
}

CLIPPING: dict[str, dict[str, object]] = {
    f"gradient-clip-{name}": {
        **{"recipe": "standard", "depth": 16, "widen-factor": 2, "epochs": 6, "warmup-epochs": 0.3},
        **{"val-fraction": 0.05, "gradient-clip": norm},
    }
    for name, norm in (("off", 0), ("5", 5))
}
"""The default recipe in small: what clipping costs it. Run by name only."""


def target_of(name: str, seed: int) -> Path:
    if name in CLIPPING:
        return RECORDS.with_name("gradient-clip") / f"{name.removeprefix('gradient-clip-')}-seed{seed}.json"
    return RECORDS / f"{name}-seed{seed}.json"


def run(name: str, seed: int, data_dir: Path) -> str:
    """Run one trial and record it; returns a line about the outcome."""
    target = target_of(name, seed)
    trial = CLIPPING[name] if name in CLIPPING else {**BASE, **TRIALS[name]}
    if target.exists():
        return f"{target.name}: already recorded"
    began, where = time.monotonic(), environment()  # the commit at the start of the run
    with tempfile.TemporaryDirectory() as folder:
        flags = {**trial, "seed": seed, "output-dir": folder, "device": "cpu", "progress": "plain"}
        words = [word for key, value in flags.items() for word in (f"--{key}", str(value))]
        done = subprocess.run(
            [sys.executable, "-m", "wrn", "train", *words],
            env={**os.environ, "OMP_NUM_THREADS": "1", "WRN_DATA_DIR": str(data_dir.resolve())},
            **{"capture_output": True, "text": True, "check": False},
        )
        if done.returncode:
            return f"{target.name}: exit code {done.returncode}: {done.stderr.strip().splitlines()[-1:]}"
        record = record_of(Path(folder), str(trial["recipe"]), name) | {"environment": {**where, "threads": 1}}
    write_json(target, record)
    return f"{target.name}: {record['validation']['val_top1']:.2%} in {(time.monotonic() - began) / 60:.1f} min"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument(
        "--only", nargs="+", choices=sorted({**TRIALS, **CLIPPING}), metavar="TRIAL", default=list(TRIALS)
    )
    parser.add_argument("--at-once", type=int, default=os.cpu_count(), help="trials to run at once")
    args = parser.parse_args()
    with ThreadPoolExecutor(args.at_once) as pool:
        jobs = [pool.submit(run, name, seed, args.data_dir) for seed in args.seeds for name in args.only]
        for job in jobs:
            print(job.result(), flush=True)


if __name__ == "__main__":
    main()
