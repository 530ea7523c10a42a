"""Write docs/experiments.md from the records in benchmarks/results/experiments: what was tried, and what was kept.

make results
"""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

from wrn.benchmarking.timing import spread

ROOT = Path(__file__).resolve().parents[1]
RECORDS = ROOT / "benchmarks/results/experiments"
# Patience is longer than any of these runs.
IGNORED = {"patience", "seed", "output_dir", "model_dir", "checkpoint_dir", "data_dir", "progress"}

INTRODUCTION = """# Experiments

Small science for the quickstart recipe: WRN-16-2 and 8 epochs (unless a row says otherwise) over nine tenths of
CIFAR-100's training images, on two CPU cores, other work beside them in some rows: the minutes are a hint. The last
tenth, held out by class, decides; the test split was not looked at for any choice. Each row differs from the base in
the keys that it names. One run on 5,000 held-out images has a standard error of about 0.7 points, so that differences
below 1 point from one seed are hints, not findings. Every figure is from a record in `benchmarks/results/experiments`.
"""


def differences(config: dict[str, Any], base: dict[str, Any]) -> str:
    changed = [key for key in base if key not in IGNORED and config.get(key, base[key]) != base[key]]
    return ", ".join(f"`{key}: {config[key]}`" for key in changed) or "base"


def main() -> None:
    records = [json.loads(path.read_text()) for path in sorted(RECORDS.glob("*.json"))]
    base = next(record["config"] for record in records if record["name"] == "base")
    groups: dict[str, list[dict[str, Any]]] = {}
    for record in records:
        groups.setdefault(differences(record["config"], base), []).append(record)
    rows = []
    for what, runs in groups.items():
        top1 = [run["validation"]["val_top1"] for run in runs]
        figures = spread(top1)
        between = f"{figures['min']:.2%} to {figures['max']:.2%}" if len(top1) > 1 else ""
        minutes = statistics.median(run["training_seconds"] for run in runs) / 60
        rows.append(
            (figures["median"], f"| {what} | {len(top1)} | {figures['median']:.2%} | {between} | {minutes:.1f} |")
        )
    lines = [
        INTRODUCTION,
        f"Base: {', '.join(f'`{key}: {base[key]}`' for key in ('crop_padding', 'lr', 'muon_lr', 'label_smoothing'))}, "
        f"resolutions `{base['resolutions']}`.",
        "",
        "| changed | seeds | held-out top-1, median | range | minutes |",
        "| --- | --- | --- | --- | --- |",
        *(row for _, row in sorted(rows, reverse=True)),
    ]
    notes = RECORDS / "NOTES.md"
    if notes.is_file():
        lines += ["", notes.read_text(encoding="utf-8").rstrip()]
    target = ROOT / "docs/experiments.md"
    target.parent.mkdir(exist_ok=True)
    target.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
