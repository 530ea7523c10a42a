"""Keep the figures of a finished run as a record.

    python benchmarks/record_run.py runs/X --recipe quickstart --output benchmarks/results/quickstart-X.json

With --experiment NAME it is one of the trials that docs/experiments.md compares: only the held-out images count there.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from wrn.benchmarking.environment import environment, write_json


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a run directory that ended")
    parser.add_argument("--recipe", required=True)
    parser.add_argument("--experiment", metavar="NAME", help="a trial with held-out images, of this name")
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()

    history = [json.loads(line) for line in (args.run / "history.jsonl").read_text().splitlines()]
    model = json.loads((args.run / "model/model.json").read_text())
    last = history[-1]
    kind = {"benchmark": "experiment", "name": args.experiment} if args.experiment else {"benchmark": "accuracy"}
    figures = {"train_top1": last["train_top1"]} if args.experiment else {"metrics": model["metrics"]}
    record = {
        **kind,
        "recipe": args.recipe,
        "network": f"WRN-{model['architecture']['depth']}-{model['architecture']['widen_factor']}",
        **figures,
        "validation": {key: last[key] for key in ("val_top1", "val_top5", "val_loss") if key in last},
        "epochs": len(history),
        "training_seconds": sum(row["seconds"] for row in history),
        "seed": model["config"]["seed"],
        "provenance": model["provenance"],
        "config": model["config"],
        "environment": environment(),
    }
    write_json(args.output, record)


if __name__ == "__main__":
    main()
