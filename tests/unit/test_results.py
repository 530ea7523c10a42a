"""No figure in the tables of README.md, benchmarks/README.md or docs/experiments.md is typed by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import experiments_table
import results_table

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = json.loads((results_table.RECORDS / "scaling-wrn-16-4-cpu.json").read_text())["environment"]


@pytest.mark.parametrize("file", results_table.TABLES)
def test_a_readme_says_what_the_records_say(file: str) -> None:
    text = (ROOT / file).read_text(encoding="utf-8")
    assert results_table.BEGIN in text
    assert results_table.END in text
    assert text == results_table.with_tables(file), "run: make results"


def test_the_experiments_say_what_the_records_say() -> None:
    text = (ROOT / "docs/experiments.md").read_text(encoding="utf-8")
    assert text == experiments_table.document(), "run: make results"


def test_accuracies_of_other_data_do_not_stand_under_the_heading_of_cifar100() -> None:
    scores = {"dataset": "synthetic", "split": "test", "images": 10_000, "top1": 0.9, "top5": 0.99}
    record: dict[str, Any] = {
        "benchmark": "accuracy",
        "config": {"processes": 1},
        "recipe": "quickstart",
        "network": "WRN-16-2",
    }
    record |= {"epochs": 16, "seed": 0, "training_seconds": 60, "metrics": scores, "environment": ENVIRONMENT}
    with pytest.raises(ValueError, match=r"whole test split: a\.json"):
        results_table.accuracy_rows({"a.json": record})


def test_the_newest_record_of_a_benchmark_is_its_headline() -> None:
    def scaling(day: int) -> dict[str, Any]:
        environment = {**ENVIRONMENT, "date": f"2026-11-{day:02d}T00:00:00Z"}
        record = {"benchmark": "scaling", "network": "WRN-16-4", "batch_size": 128, "processes": 2}
        average = {"bytes": 1e6, "share_of_step": 0.1}
        return {**record, "average_alone": average, "efficiency": {"median": day / 100}, "environment": environment}

    _, row = results_table.headline_rows({"a.json": scaling(3), "b.json": scaling(9), "c.json": scaling(5)})
    assert "9.0%" in row[1]
