from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from data_files import write_pictures
from wrn.aws.catalog.prices import Price, Source
from wrn.cli import dataset_size, main
from wrn.cli import plan as command
from wrn.config.schema import Config
from wrn.errors import AwsError


@pytest.fixture(autouse=True)
def no_region_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")


@pytest.fixture(autouse=True)
def wide_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "500")


def shown(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> str:
    assert main(["plan", *arguments]) == code
    captured = capsys.readouterr()
    return captured.err if code else captured.out


def as_json(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    return dict(json.loads(shown(capsys, "--json", *arguments)))


def test_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    text = shown(capsys)
    lines = text.split("\n")
    assert lines[0].startswith("WRN-28-10, 100 epochs of 47,500 images: 149.4 PFLOP")
    assert lines[2].split() == ["instance", "GPUs", "GiB", "fits", "s/epoch", "hours", "cost", "spot", "~"]
    rows = [line for line in lines if line.lstrip("*- ").startswith("ml.")]
    costs = [float(line.split("$")[1].split()[0]) for line in rows]
    assert costs == sorted(costs)
    assert rows[0].startswith("*")
    assert "\nassumed, not measured: " in text
    assert "MFU 40% on A100, A10G, " in text
    assert "us-west-2, seen 2026-11" in text
    assert "left out: ml.p4de.24xlarge, " in text
    assert next(row for row in rows if "ml.p3.2xlarge" in row).startswith("-")
    assert "\nnote on ml.p3: not offered in us-west-2; image 2.8 has had no security patches since 2026-08-06\n" in text
    assert "\nimage for ml.p3: pytorch 2.8 cu129\n" in text


def test_types_that_do_not_fit_are_marked_and_explained(capsys: pytest.CaptureFixture[str]) -> None:
    text = shown(capsys, "--batch-size", "20000")
    row = next(line for line in text.split("\n") if "ml.g6e.12xlarge" in line)
    assert row.split()[:7] == ["-", "ml.g6e.12xlarge", "4", "x", "L40S", "48", "no"]
    assert "too little memory" in next(
        line for line in text.split("\n") if line.startswith("note on ml.g4dn.12xlarge, ")
    )


@pytest.mark.parametrize(
    ("columns", "headings"),
    [
        (80, ["instance", "GPUs", "GiB", "fits", "s/epoch", "hours", "cost", "spot", "~"]),
        (78, ["instance", "GPUs", "fits", "s/epoch", "hours", "cost", "spot", "~"]),
        (60, ["instance", "GPUs", "hours", "cost", "spot", "~"]),
        (20, ["instance", "hours", "cost"]),
    ],
)
def test_a_narrow_terminal_has_fewer_columns_and_no_broken_row(
    columns: int, headings: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    lines = shown(capsys).split("\n")
    at = next(number for number, line in enumerate(lines) if "instance  " in line)
    assert lines[at].split() == headings
    assert len(lines[at + 1 : lines.index("", at)]) == 36
    assert max(map(len, lines)) <= max(columns, 34)


def test_json_says_all_that_the_table_says(capsys: pytest.CaptureFixture[str]) -> None:
    found = as_json(capsys, "--recipe", "record", "--epochs", "10")
    assert found["epochs"] == 10
    assert found["multiply_adds"] == 5_243_386_368
    row = next(row for row in found["rows"] if row["instance"] == "ml.g5.xlarge")
    assert row["seconds_per_epoch"] == pytest.approx(2 * 56.18, abs=0.01)
    assert row["usd_per_hour"] == 1.408
    assert row["price_date"] == "seen 2026-11"
    assert row["mfu_measured"] is False
    assert row["image"].endswith("us-west-2.amazonaws.com/pytorch:2.12-cu130-amzn2023-sagemaker")
    assert row["image_end_of_patch"] == "2027-07-02"


def test_limits(capsys: pytest.CaptureFixture[str]) -> None:
    rows = as_json(capsys, "--max-hours", "0.5", "--max_cost", "2")["rows"]
    assert rows
    assert all(row["hours"] <= 0.5 and row["on_demand_usd"] <= 2 for row in rows)


def test_limits_that_leave_nothing_name_the_alternatives(capsys: pytest.CaptureFixture[str]) -> None:
    error = shown(capsys, "--max-cost", "0.01", code=2)
    assert error.startswith("wrn plan: nothing is within --max-cost 0.01; the cheapest is ml.")
    assert main(["plan", "--json", "--max-cost", "0.01"]) == 2
    said = capsys.readouterr()
    found = json.loads(said.out)
    assert found["rows"] == []
    assert said.err == f"wrn plan: {found['notes'][-1]}\n" == error


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--region", "us-wst-2"], "did you mean us-west-2?"),
        (["--max-cost", "0"], "--max-cost: '0' is not allowed; give US dollars above 0"),
        (["--max-hours", "soon"], "--max-hours: 'soon' is not allowed; give hours above 0, such as 1.5"),
        (["--mfu", "40"], "--mfu: '40' is not allowed; give a fraction above 0 and at most 1, such as 0.4 for 40%"),
        (["--epocs", "3"], "--epocs: is not a known flag; did you mean --epochs?"),
        (["--depth", "100000000000006"], "depth (flag): '100000000000006' is not allowed; "),
        (["--image", "9.9"], 'version "9.9" is unknown'),
    ],
)
def test_mistakes_are_sentences(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    error = shown(capsys, *arguments, code=2)
    assert words in error
    assert "Traceback" not in error


def test_the_region_of_the_environment(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    found = as_json(capsys)
    assert found["region"] == "eu-west-1"
    assert found["notes"] == ["these are prices of us-west-2; those of eu-west-1 may differ: --live asks AWS"]
    assert as_json(capsys, "--region", "us-west-2")["region"] == "us-west-2"


def test_the_region_of_the_profile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("botocore", reason="needs the extra aws")
    (tmp_path / "config").write_text("[default]\nregion = eu-west-1\n[profile work]\nregion = eu-central-1\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    assert as_json(capsys)["region"] == "eu-west-1"
    assert as_json(capsys, "--profile", "work")["region"] == "eu-central-1"
    monkeypatch.setenv("AWS_REGION", "us-east-2")
    assert as_json(capsys, "--profile", "work")["region"] == "us-east-2"


def test_without_botocore_the_region_is_that_of_the_prices(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "botocore.session", None)
    assert as_json(capsys)["region"] == "us-west-2"


def test_what_a_plan_cannot_know_is_noted(capsys: pytest.CaptureFixture[str]) -> None:
    notes = as_json(capsys, "--dataset", "folder", "--budget-minutes", "10")["notes"]
    assert notes == [
        "assumed: the folder has 50,000 training images; --train-images sets another number",
        "budget_minutes sets the epochs during training; this plan is for 100 epochs",
    ]


def test_the_users_own_images_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_pictures(tmp_path)
    text = shown(capsys, "--dataset", "folder", "--data-dir", str(tmp_path))
    assert "100 epochs of 6 images" in text
    assert "estimated for the 6 training images in the folder" in text
    text = shown(capsys, "--dataset", "folder", "--data-dir", str(tmp_path), "--train-images", "4")
    assert "estimated for 4 of the 6 training images in the folder (train_images)" in text


def test_more_images_than_cifar_has(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def seconds(images: int) -> list[float]:
        monkeypatch.setattr(dataset_size, "count_training_images", lambda config: images)
        return [row["seconds_per_epoch"] for row in as_json(capsys, "--dataset", "folder")["rows"]]

    assert sorted(seconds(500_000)) == pytest.approx([10 * value for value in sorted(seconds(50_000))], rel=0.01)


def test_train_images_counts_if_the_folder_is_elsewhere() -> None:
    config, lines = dataset_size.with_dataset_size(Config(dataset="folder", train_images=8000), elsewhere=True)
    assert config.train_images == 8000
    assert lines == ["estimated for 8,000 training images (train_images)"]


def test_live_prices(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    price = Price(2.0, "eu-west-1", Source("AWS Price List", "2026-11-01"))
    asked = []

    def answer(region: str, profile: str | None) -> dict[str, Price]:
        asked.append((region, profile))
        return {"ml.p5.4xlarge": price}

    monkeypatch.setattr(command, "live_prices", answer)
    found = as_json(capsys, "--live", "--region", "eu-west-1", "--profile", "work")
    assert asked == [("eu-west-1", "work")]
    assert [row["instance"] for row in found["rows"]] == ["ml.p5.4xlarge"]
    assert found["notes"] == []


def test_live_prices_that_fail_fall_back(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def fail(region: str, profile: str | None) -> None:
        raise AwsError("prices: no network")

    monkeypatch.setattr(command, "live_prices", fail)
    text = shown(capsys, "--live")
    assert "prices: no network; these are the bundled prices" in text
    assert "ml.g5.xlarge" in text


def test_it_needs_neither_torch_nor_boto3() -> None:
    code = "import sys; from wrn.cli import main; main(['plan']); sys.exit(bool({'torch', 'boto3'} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
