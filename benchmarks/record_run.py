"""Save the results of a finished run as a record.

    python benchmarks/record_run.py runs/X --recipe quickstart --output benchmarks/results/quickstart-X.json

With --experiment NAME it becomes one of the trials compared in docs/experiments.md, which use held-out images only.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from wrn.bench.environment import environment, write_json
from wrn.config.architecture import Architecture


def record_of(run: Path, recipe: str, experiment: str | None) -> dict[str, Any]:
    """A record of a run directory, without the paths that the run used."""
    history = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
    model = json.loads((run / "model/model.json").read_text())
    last = history[-1]
    kind = {"benchmark": "experiment", "name": experiment} if experiment else {"benchmark": "accuracy"}
    figures = {"train_top1": last["train_top1"]} if experiment else {"metrics": model["metrics"]}
    return {
        **kind,
        "recipe": recipe,
        "network": str(Architecture(**model["architecture"])),
        **figures,
        "validation": {key: value for key, value in last.items() if key.startswith("val_")},
        "largest_grad_norm": max(row["largest_grad_norm"] for row in history),
        "epochs": len(history),
        "training_seconds": sum(row["seconds"] for row in history),
        "seed": model["config"]["seed"],
        "provenance": model["provenance"],
        "config": {key: value for key, value in model["config"].items() if not key.endswith("_dir")},
        "environment": environment(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="directory of a finished run")
    parser.add_argument("--recipe", required=True)
    parser.add_argument("--experiment", metavar="NAME", help="name of a trial with held-out images")
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    write_json(args.output, record_of(args.run, args.recipe, args.experiment))


if __name__ == "__main__":
    main()
