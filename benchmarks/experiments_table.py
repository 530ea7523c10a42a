"""Write docs/experiments.md from the records under benchmarks/results: what was tried and what was kept.

make results
"""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

from wrn.config import Config
from wrn.training.resume import FREE_KEYS

ROOT = Path(__file__).resolve().parents[1]
TRIALS = ROOT / "benchmarks/results/experiments"
WHOLE_RUNS = ROOT / "benchmarks/results/whole-runs"
SINGLE_RUNS = ROOT / "benchmarks/results/single-runs"
IGNORED = FREE_KEYS | {"dataset", "seed", "val_fraction"}
"""Keys that do not affect what is learned, or are the same in all these runs; patience is longer than any of them."""
SHOWN = ("epochs", "batch_size", "lr", "muon_lr", "schedule", "label_smoothing", "crop_padding", "resolutions")

PEERS = {"sgd-zero-init": "sgd", "silu-pool": "silu"}
"""Trials that are compared with a trial other than the base."""

INTRODUCTION = """# Experiments

Small-scale experiments for the quickstart recipe on two CPU cores: WRN-16-2 trained on nine tenths of CIFAR-100's
training images. Choices were made on the remaining tenth, held out by class. The test split decided only once: twelve
epochs with fewer steps at 32 px, instead of eleven with more, were dropped after a run of the whole recipe (before
`downsampling`). Every figure comes from a record under `benchmarks/results/`; `make results` writes these tables.

## Trials over several seeds

`python benchmarks/experiments.py --data-dir data` runs them, each with one thread and in about the same time as the
base. The seed determines the weights, the order, the augmentation and the held-out images, so each trial is compared
with the base of the same seed: "difference" is the mean of those differences with its standard error. A single score on
5,000 images has a standard error of 0.7 points. A figure from one seed is only a hint, and so are the minutes: some
trials ran next to other work, or on a slower processor.
"""
WHOLE = """
## Whole runs

The quickstart recipe for 13 epochs on four fifths of the training images, scored on the other fifth (10,000 images).
Here the network is no longer limited by too few epochs: in the last epoch it fits the training images seven points
better than the held-out ones, which four epochs do not show. One thread each, two at once; the difference is from the
base of the same seed, as above. Each is `wrn train --recipe quickstart --epochs 13 --val-fraction 0.2` with the flags
of its row (for the base, the stages below), then `python benchmarks/record_run.py ... --experiment NAME`.
"""
SINGLE = """
## Longer single runs

Eight epochs with batches of 128 unless a row says otherwise, on both cores (SiLU on one). Other work ran at the same
time in some rows, so the minutes are only a hint. One seed each.
"""


def differences(config: dict[str, Any], base: dict[str, Any]) -> str:
    # A key missing from a record was added later, and its default is what was done before.
    config, base = Config().model_dump(mode="json") | config, Config().model_dump(mode="json") | base
    changed = [key for key in base if key not in IGNORED and config[key] != base[key]]
    return ", ".join(f"`{key}: {config[key]}`" if config[key] != "" else f"no `{key}`" for key in changed) or "base"


def records_in(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]


def described(base: dict[str, Any]) -> str:
    return f"Base: WRN-{base['depth']}-{base['widen_factor']}, {base['optimizer']}, " + ", ".join(
        f"`{key}: {base[key]}`" for key in SHOWN
    )


def trials_table(records: list[dict[str, Any]]) -> list[str]:
    """A row per trial, best first, with its mean and its difference from its peer with the same seeds."""
    trials: dict[str, dict[int, dict[str, Any]]] = {}
    for record in records:
        trials.setdefault(record["name"], {})[record["seed"]] = record
    base = next(iter(trials["base"].values()))["config"]
    rows = []
    for name, runs in trials.items():
        peers = trials[PEERS.get(name, "base")]
        top1 = [run["validation"]["val_top1"] for run in runs.values()]
        gains = [
            100 * (run["validation"]["val_top1"] - peers[seed]["validation"]["val_top1"])
            for seed, run in runs.items()
            if seed in peers
        ]
        spread = f" ± {100 * statistics.stdev(top1):.2f}" if len(top1) > 1 else ""
        error = f" ± {statistics.stdev(gains) / len(gains) ** 0.5:.2f}" if len(gains) > 1 else ""
        what = differences(next(iter(runs.values()))["config"], base)
        gain = "" if name == "base" else f"{statistics.mean(gains):+.2f}{error}"
        gain += f" (from `{PEERS[name]}`)" if name in PEERS else ""
        minutes = statistics.median(run["training_seconds"] for run in runs.values()) / 60
        mean = statistics.mean(top1)
        rows.append((mean, f"| {what} | {len(top1)} | {mean:.2%}{spread} | {gain} | {minutes:.1f} |"))
    return [
        described(base),
        "",
        "| changed | seeds | held-out top-1, mean ± deviation | difference, points | minutes of a core |",
        "| --- | --- | --- | --- | --- |",
        *(row for _, row in sorted(rows, reverse=True)),
    ]


def single_table(records: list[dict[str, Any]]) -> list[str]:
    """A row per run, best first, with its changes from the run named base."""
    base = next(record["config"] for record in records if record["name"] == "base")
    records = sorted(records, key=lambda record: -record["validation"]["val_top1"])
    return [
        described(base),
        "",
        "| changed | held-out top-1 | minutes |",
        "| --- | --- | --- |",
        *(
            f"| {differences(record['config'], base)} | {record['validation']['val_top1']:.2%} "
            f"| {record['training_seconds'] / 60:.1f} |"
            for record in records
        ),
    ]


def document() -> str:
    lines = [INTRODUCTION, *trials_table(records_in(TRIALS)), "", (TRIALS / "NOTES.md").read_text().rstrip()]
    lines += [WHOLE, *trials_table(records_in(WHOLE_RUNS)), "", (WHOLE_RUNS / "NOTES.md").read_text().rstrip()]
    lines += [SINGLE, *single_table(records_in(SINGLE_RUNS)), "", (SINGLE_RUNS / "NOTES.md").read_text().rstrip()]
    return "\n".join(lines) + "\n"


def main() -> None:
    (ROOT / "docs/experiments.md").write_text(document(), encoding="utf-8")


if __name__ == "__main__":
    main()
