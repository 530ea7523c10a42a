"""`wrn resume`: the time limit of the new job, and whether it was started at all."""

from __future__ import annotations

import json
import re
import time
from typing import TYPE_CHECKING

import pytest
from botocore.exceptions import ReadTimeoutError
from moto.sagemaker.models import sagemaker_backends

from fake_account import ACCOUNT, BUCKET, REGION, make_bucket, make_job, make_log
from fake_job import epoch_line
from wrn.cli import main

if TYPE_CHECKING:
    from mocked_aws import Faults


def stopped_job(secondary: str = "Stopped") -> None:
    make_bucket(BUCKET, ours=True)
    make_job("wrn-a")
    job = sagemaker_backends[ACCOUNT][REGION].training_jobs["wrn-a"]
    job.algorithm_specification = {"TrainingImage": "1.example/x", "TrainingInputMode": "File"}
    job.training_job_status, job.secondary_status = "Stopped", secondary


@pytest.mark.usefixtures("account")
def test_it_says_that_more_is_left_than_its_time_limit(capsys: pytest.CaptureFixture[str]) -> None:
    """By the log of the job before: its limit of an hour is not enough for the ten hours that are left."""
    stopped_job("MaxRuntimeExceeded")
    make_log("wrn-a", [f"{epoch_line(3)} seconds_left=36000.0"], 1000 * int(time.time()))

    def told(*flags: str) -> tuple[int, list[str]]:
        assert main(["resume", "wrn-a", "--dry-run", *flags]) == 0
        out, err = capsys.readouterr()
        limit = json.loads(out)["StoppingCondition"]["MaxRuntimeInSeconds"]
        return limit, re.findall(r"careful: about (.*?) of training", err)

    assert told() == (3600, ["10 h"])
    assert told("--max-runtime", "15h") == (54000, [])
    assert told("--max-minutes", "900") == (54000, [])
    limit, left = told("--instance-type", "g4dn.xlarge")
    assert limit == 3600
    assert re.fullmatch(r"[1-9]\d h \d\d min", left[0]), "a slower instance takes more than 10 h"
    assert told("--instance-type", "m5.large") == (3600, []), "nobody knows how slow"
    assert main(["resume", "wrn-a", "--max-runtime", "soon"]) == 2
    assert "'soon' is not a time; give one such as 90m" in capsys.readouterr().err


def test_a_resumed_job_of_which_nothing_was_heard(faults: Faults, capsys: pytest.CaptureFixture[str]) -> None:
    """The request arrives and its answer does not, so that the retry finds the name in use; or nothing is known."""
    stopped_job()
    resume = ["resume", "wrn-a", "--yes", "--region", REGION, "--name"]
    assert main([*resume, "mine"]) == 0
    capsys.readouterr()
    lost = ReadTimeoutError(endpoint_url="x")
    faults.fail("CreateTrainingJob", lost)
    assert main([*resume, "mine"]) == 0
    assert "mine started; it starts from scratch" in capsys.readouterr().err
    for more, fault in ([], None), (["--instance-type", "ml.g6.xlarge"], lost):
        if fault:
            faults.fail("CreateTrainingJob", fault)
        assert main([*resume, "mine", *more]) == 2
        err = capsys.readouterr().err
        assert "name: a job mine exists in eu-west-1 already; give another --name, or see it with: wrn status" in err
        assert "may be running" not in err
    for error, code in (lost, 2), (KeyboardInterrupt(), 3):
        faults.fail("CreateTrainingJob", error, times=3 if error is lost else 1)
        assert main([*resume, "other"]) == code
        told = "the job other may be running: see wrn status other --region eu-west-1, or wrn stop it"
        assert told in capsys.readouterr().err.splitlines()
    faults.fail("CreateTrainingJob", lost)
    faults.fail("DescribeTrainingJob", lost, after=1, times=3)
    assert main([*resume, "mine"]) == 2
    assert "the job mine may be running" in capsys.readouterr().err, "its owner could not be determined"
