"""`wrn resume`: what it says about the time limit of the new job."""

from __future__ import annotations

import json
import re
import time

import pytest
from moto.sagemaker.models import sagemaker_backends

from fake_account import ACCOUNT, BUCKET, REGION, make_bucket, make_job, make_log
from fake_job import epoch_line
from wrn.cli import main


@pytest.mark.usefixtures("account")
def test_it_says_that_more_is_left_than_its_time_limit(capsys: pytest.CaptureFixture[str]) -> None:
    """By the log of the job before: its limit of an hour is not enough for the ten hours that are left."""
    make_bucket(BUCKET, ours=True)
    make_job("wrn-a")
    make_log("wrn-a", [f"{epoch_line(3)} seconds_left=36000.0"], 1000 * int(time.time()))
    job = sagemaker_backends[ACCOUNT][REGION].training_jobs["wrn-a"]
    job.algorithm_specification = {"TrainingImage": "1.example/x", "TrainingInputMode": "File"}
    job.training_job_status, job.secondary_status = "Stopped", "MaxRuntimeExceeded"

    def told(*flags: str) -> tuple[int, list[str]]:
        assert main(["resume", "wrn-a", "--dry-run", *flags]) == 0
        out, err = capsys.readouterr()
        return json.loads(out)["StoppingCondition"]["MaxRuntimeInSeconds"], re.findall(r"careful: about (\S+ h)", err)

    assert told() == (3600, ["10.0 h"])
    assert told("--max-runtime", "15h") == (54000, [])
    assert told("--max-minutes", "900") == (54000, [])
    limit, left = told("--instance-type", "g4dn.xlarge")
    assert limit == 3600
    assert float(left[0].split()[0]) > 10, "a slower instance"
    assert told("--instance-type", "m5.large") == (3600, []), "nobody knows how slow"
    assert main(["resume", "wrn-a", "--max-runtime", "soon"]) == 2
    assert "'soon' is not a time; give one such as 90m" in capsys.readouterr().err
