"""Keep the figures of a finished run as a record.

python benchmarks/record_run.py runs/X --recipe quickstart --output benchmarks/results/quickstart-X.json
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
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()

    history = [json.loads(line) for line in (args.run / "history.jsonl").read_text().splitlines()]
    model = json.loads((args.run / "model/model.json").read_text())
    record = {
        "benchmark": "accuracy",
        "recipe": args.recipe,
        "network": f"WRN-{model['architecture']['depth']}-{model['architecture']['widen_factor']}",
        "metrics": model["metrics"],
        "validation": {key: value for key, value in history[-1].items() if key.startswith("val_top")},
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
