"""What `wrn deploy` says and sends about the time limit of a job."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from wrn.cli import main

pytest.importorskip("botocore", reason="needs the extra aws")


@pytest.fixture(autouse=True)
def _no_region(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.chdir(tmp_path)


def deployed(capsys: pytest.CaptureFixture[str], *flags: str) -> tuple[dict[str, int], str]:
    """The job's stopping condition, and what was said."""
    assert main(["deploy", "--dry-run", *flags]) == 0
    out, err = capsys.readouterr()
    return json.loads(out)[-1]["request"]["StoppingCondition"], err


def test_the_default_follows_from_the_expected_time(capsys: pytest.CaptureFixture[str]) -> None:
    times, err = deployed(capsys, "--spot", "--epochs", "100")
    runtime = times["MaxRuntimeInSeconds"]
    minutes = float(re.findall(r"expected: about (\d+) min", err)[0])
    assert runtime == pytest.approx(6 * 60 * minutes, rel=0.05)
    assert times["MaxWaitTimeInSeconds"] == runtime + 86400
    most = float(re.findall(r"at most \$([0-9.]+)", err)[0])
    assert most == pytest.approx(2.61 * (runtime + 300) / 3600, abs=0.01)
    assert "6 times the expected time" in err
    assert "careful" not in err
    assert deployed(capsys, "--epochs", "6")[0] == {"MaxRuntimeInSeconds": 7200}
    assert deployed(capsys, "--instance-type", "m5.large")[0] == {"MaxRuntimeInSeconds": 86400}
    assert deployed(capsys, "--dataset", "folder", "--data-uri", "s3://b/x")[0] == {"MaxRuntimeInSeconds": 86400}
    assert deployed(capsys, "--epochs", "6", "--instance-count", "2")[0] == {"MaxRuntimeInSeconds": 7200}
    times, _ = deployed(capsys, "--spot", "--max-wait", "1h")
    assert times == {"MaxRuntimeInSeconds": 3600, "MaxWaitTimeInSeconds": 3600}


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--recipe", "record", "--epochs", "5000"], ["ml.g6e.xlarge"]),
        (["--recipe", "record", "--max-runtime", "1h"], ["ml.g6e.xlarge"]),
        (["--recipe", "record", "--max-runtime", "2h", "--fallback", "g4dn.xlarge"], ["ml.g4dn.xlarge"]),
        (["--recipe", "record", "--epochs", "900", "--fallback", "g4dn.xlarge"], ["ml.g4dn.xlarge"]),
        (["--recipe", "record", "--max-cost", "2"], ["ml.g6e.xlarge"]),
        (["--recipe", "record", "--max-cost", "9", "--max-runtime", "1h"], ["ml.g6e.xlarge"]),
        (["--recipe", "record", "--spot", "--max-wait", "1h"], ["ml.g6e.xlarge"]),
    ],
)
def test_too_short_a_limit_is_told_with_the_flags_that_would_hold(
    flags: list[str], told: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    _, err = deployed(capsys, *flags)
    lines = [line for line in err.splitlines() if line.startswith("careful: ")]
    assert [line.split()[1] for line in lines] == told
    advised = lines[0].partition("; give ")[2].partition(", or")[0].split()
    assert advised[0].startswith("--max-")
    _, err = deployed(capsys, *flags, *advised)  # the last of a flag counts
    assert "careful: " not in err


def test_a_run_longer_than_any_job(capsys: pytest.CaptureFixture[str]) -> None:
    _, err = deployed(capsys, "--recipe", "record", "--epochs", "100000", "--instance-type", "g4dn.xlarge")
    (line,) = [line for line in err.splitlines() if line.startswith("careful: ")]
    assert "28 days" in line
    assert "give --" not in line


@pytest.mark.parametrize("flag", ["--max-runtime", "--max-wait"])
@pytest.mark.parametrize("text", ["0", "0.4s"])
def test_no_time_at_all_is_not_the_default(flag: str, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["deploy", "--dry-run", "--spot", flag, text]) == 2
    assert f"{flag[2:].replace('-', '_')}: '{text}' must be at least 1 s" in capsys.readouterr().err


def test_a_rehearsal_is_not_limited_by_the_speed_of_an_instance(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr("wrn.cli.deploy_local.rehearse", lambda task: seen.append(dict(task.options.expected)) or 0)
    assert main(["deploy", "--local", "--epochs", "6"]) == 0
    assert seen == [{}]
