"""No figure in the tables of README.md, benchmarks/README.md or docs/experiments.md is typed by hand, nor a part of a
run taken for the whole."""

from __future__ import annotations

from pathlib import Path

import pytest

import experiments_table
import results_table
from record_run import training_seconds

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("file", results_table.TABLES)
def test_a_readme_says_what_the_records_say(file: str) -> None:
    text = (ROOT / file).read_text(encoding="utf-8")
    assert results_table.BEGIN in text
    assert results_table.END in text
    assert text == results_table.with_tables(file), "run: make results"


def test_the_experiments_say_what_the_records_say() -> None:
    text = (ROOT / "docs/experiments.md").read_text(encoding="utf-8")
    assert text == experiments_table.document(), "run: make results"


def test_an_epoch_that_went_on_in_its_middle_counts_whole() -> None:
    rows = [
        {"images_per_s": 100.0, "seconds": 14.0, "compile_seconds": 4.0},  # 1,000 images
        {"images_per_s": 50.0, "seconds": 5.0, "compile_seconds": 0.0},  # the last 250 of them
        {"images_per_s": 200.0, "seconds": 5.0},
    ]
    assert training_seconds(rows) == 14.0 + 20.0 + 5.0
