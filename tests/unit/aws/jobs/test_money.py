"""The cost of a job: at its region's price if that was recorded with it; otherwise the output says whose it is."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fake_job import FakeJob
from wrn.aws.catalog.prices import GIVEN, Price, Source, bundled_prices, price_text, read_price
from wrn.aws.jobs.job import Job
from wrn.aws.jobs.progress import money
from wrn.aws.jobs.resume import resume_request
from wrn.aws.resources.inventory import _running
from wrn.cli import aws_flags, logs, main
from wrn.cli.resume import most

OWN = {"WRN_PRICE": "2.816 eu-west-1 2026-11-01"}


def job(region: str = "eu-west-1", price: dict[str, str] | None = None, **more: Any) -> FakeJob:
    found = FakeJob()
    found.region = region
    found.answer |= {"TrainingJobArn": f"arn:aws:sagemaker:{region}:111122223333:training-job/wrn-a", **more}
    if price is not None:
        found.answer["Environment"] = {"COLOUR": "blue"} | price
    found.now = 60
    found.enter("Training")
    return found


def after_an_hour(found: FakeJob) -> Job:
    found.now += 3600
    found.enter("Completed")
    found.answer |= {"BillableTimeInSeconds": 3600, "TrainingTimeInSeconds": 3600}
    return Job(found.answer)


def test_a_price_is_read_as_it_was_written() -> None:
    for price in (
        Price(2.816, "eu-west-1", Source("AWS Price List", "2026-11-01")),
        Price(25.251286, "cn-north-1", GIVEN),
        Price(3.0, "us-gov-west-1", Source("AWS Price List", "")),
    ):
        assert read_price(price_text(price)) == (price if price.source.date else None)
    assert [read_price(text) for text in ("", "free", "1 2", "-1 eu-west-1 given")] == [None] * 4


def test_the_recorded_price_counts() -> None:
    own, foreign, home = (Job(job(*place).answer) for place in (("eu-west-1", OWN), ("eu-west-1",), ("us-east-1",)))
    assert (own.price, own.price_is_foreign) == (read_price(OWN["WRN_PRICE"]), False)
    assert (foreign.price, foreign.price_is_foreign) == (bundled_prices()["ml.g5.xlarge"], True)
    assert (home.price, home.price_is_foreign) == (bundled_prices()["ml.g5.xlarge"], False)
    assert money(after_an_hour(job(price=OWN)), 0.0).so_far == pytest.approx(2.816)
    assert money(own, 0.0).ceiling == pytest.approx(2.816 * 3900 / 3600)


def test_what_was_kept_warm_is_paid_on_every_instance() -> None:
    found = job(ResourceConfig={"InstanceType": "ml.g5.xlarge", "InstanceCount": 2, "KeepAlivePeriodInSeconds": 1800})
    found.answer["WarmPoolStatus"] = {"Status": "Available", "ResourceRetainedBillableTimeInSeconds": 900}
    over = after_an_hour(found)
    costs = money(over, 0.0)
    assert costs.so_far == pytest.approx(2 * 1.408 * 1.25)
    assert costs.ceiling == pytest.approx(2 * 1.408 * (3600 + 300 + 1800) / 3600)
    (pool,) = _running([over])
    assert (pool.kind, pool.per_hour, pool.monthly) == ("warm pool", pytest.approx(2 * 1.408), 0.0)
    found.answer["WarmPoolStatus"]["Status"] = "Terminated"
    assert list(_running([Job(found.answer)])) == []
    assert money(Job(found.answer), 0.0).so_far == pytest.approx(2 * 1.408 * 1.25), "it was billed all the same"


def test_an_inventory_takes_the_recorded_price() -> None:
    own, foreign = (next(iter(_running([Job(job(price=price).answer)]))) for price in (OWN, None))
    assert (own.per_hour, own.detail) == (pytest.approx(2.816), "1 x ml.g5.xlarge, training")
    assert (foreign.per_hour, foreign.detail) == (
        pytest.approx(1.408),
        "1 x ml.g5.xlarge, training, at the US price",
    )


def test_status_says_whose_price_it_is(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def shown(found: FakeJob, *flags: str) -> str:
        monkeypatch.setattr(aws_flags, "open_session", lambda options: found)
        assert main(["status", "wrn-a", *flags]) == 0
        return capsys.readouterr().out

    assert "at the US price: that of eu-west-1 was not recorded with the job" in shown(job())
    assert "US price" not in shown(job(price=OWN))
    assert "at most $3.05" in shown(job(price=OWN))
    assert "US price" not in shown(job("us-east-2"))
    told = json.loads(shown(job(price=OWN), "--json"))
    assert told["price"] == {
        "usd_per_hour": 2.816,
        "region": "eu-west-1",
        "source": "AWS Price List",
        "date": "2026-11-01",
    }
    assert json.loads(shown(job(ResourceConfig={"InstanceType": "ml.x.large"}), "--json"))["price"] is None


@pytest.mark.parametrize(
    ("price", "words"),
    [
        (OWN, "(list price of eu-west-1, 2026-11-01)"),
        ({"WRN_PRICE": "1.5 eu-west-1 given"}, "(at the given price)"),
        ({}, "(list price of us-west-2, seen 2026-11: not that of eu-west-1)"),
    ],
)
def test_the_end_says_whose_price_it_was(price: dict[str, str], words: str) -> None:
    over = after_an_hour(job(price=price))
    result: dict[str, Any] = {"figures": {}, "result": "", "ceiling_usd": None, "spot_savings": None, "next": "x"}
    assert any(line.endswith(words) for line in logs.end_lines(over, result))


def test_resume_keeps_the_price_of_the_same_machine_alone() -> None:
    found = job(price=OWN)
    found.enter("Stopped")
    before = Job(found.answer)
    same = resume_request(before, [], "wrn-a-r2")
    assert same["Environment"] == {"COLOUR": "blue", **OWN}
    assert (most(same, before).ceiling, most(same, before).foreign) == (pytest.approx(2.816 * 3900 / 3600), "")
    other = resume_request(before, [], "wrn-a-r2", instance_type="ml.g6.xlarge")
    assert other["Environment"] == {"COLOUR": "blue"}
    assert most(other, before).foreign == "eu-west-1"
    del found.answer["Environment"]["COLOUR"]
    assert "Environment" not in resume_request(before, [], "wrn-a-r2", instance_type="ml.g6.xlarge")


def test_resume_reckons_the_key_of_the_disk_anew() -> None:
    """Local storage takes no key; other disks have the key of the results."""

    def disk(before: str, after: str, key: str = "abc") -> Any:
        machines = {"InstanceType": before, "InstanceCount": 1, "VolumeSizeInGB": 30}
        if key and before.startswith("ml.p3"):
            machines["VolumeKmsKeyId"] = key
        output = {"S3OutputPath": "s3://b/wrn/output", **({"KmsKeyId": key} if key else {})}
        found = job(ResourceConfig=machines, OutputDataConfig=output)
        found.enter("Stopped")
        request = resume_request(Job(found.answer), [], "wrn-a-r2", instance_type=after)
        assert request["ResourceConfig"]["InstanceType"] == after
        assert found.answer["ResourceConfig"] == machines, "the old one is left alone"
        return request["ResourceConfig"].get("VolumeKmsKeyId")

    assert disk("ml.g5.xlarge", "ml.p3.2xlarge") == "abc"
    assert disk("ml.p3.2xlarge", "ml.g5.xlarge") is None
    assert disk("ml.p3.2xlarge", "ml.m5.xlarge") == "abc"
    assert disk("ml.g5.xlarge", "ml.p3.2xlarge", key="") is None
