"""`wrn deploy` as users see it: what it asks, prints and refuses, and that it never shows a secret."""

from __future__ import annotations

import functools
import io
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from data_files import accept_stand_ins, write_archive
from wrn.aws.account.errors import NoAnswer
from wrn.aws.catalog.prices import Price, Source
from wrn.aws.s3.code_archive import source_root
from wrn.aws.s3.dataset_files import Parcel
from wrn.cli import deploy, main
from wrn.cli.deploy import agree
from wrn.data import locate
from wrn.data.download import Unreachable
from wrn.errors import AwsError

if TYPE_CHECKING:
    from mocked_aws import Faults

SYNTHETIC = ["deploy", "--yes", "--dataset", "synthetic", "--region", "eu-west-1"]


@pytest.fixture(autouse=True)
def _stand_ins(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    accept_stand_ins(monkeypatch)
    monkeypatch.chdir(tmp_path)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_deployment(faults: Faults, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_archive(tmp_path / "data", "cifar-100-python")
    machine = ["--region", "eu-west-1", "--instance-type", "ml.g5.xlarge", "--spot"]
    flags = [*machine, "--name", "mine", "--max-cost", "5", "--debug"]
    assert main(["deploy", "--yes", *flags]) == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert lines[0] == "job: mine on 1 x ml.g5.xlarge in eu-west-1, at most $5.00"
    assert lines[1] == "expected: about 1 h 34 min and $0.88 (spot price assumed), under the assumptions of wrn plan"
    assert lines[2] == "look: https://eu-west-1.console.aws.amazon.com/sagemaker/home?region=eu-west-1#/jobs/mine"
    assert lines[3].endswith("log-group/$252Faws$252Fsagemaker$252FTrainingJobs$3FlogStreamNameFilter$3Dmine$252F")
    assert [line.split()[1] for line in lines[5:]] == ["logs", "status", "stop", "fetch"]
    assert all("mine --region eu-west-1" in line for line in lines[5:])
    assert "expected: about 1 h 34 min" in err
    assert "ml.g5.xlarge is neither the cheapest" in err
    assert main(["deploy", "--yes", *flags, "--name", "again"]) == 0
    listed = capsys.readouterr().err.partition("requests to AWS:\n")
    assert {"Key": "wrn-user", "Value": "moto"} in faults.created[0]["Tags"]
    assert int(listed[0].split()[-1]) == len(listed[2].splitlines()) <= 25
    assert "  sagemaker CreateTrainingJob" in listed[2].splitlines()


def test_as_json(faults: Faults, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*SYNTHETIC, "--json", "--recipe", "sprint"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["name"].startswith("wrn-sprint-")
    assert (result["region"], result["bucket"]) == ("eu-west-1", "wrn-123456789012-eu-west-1")
    assert result["expected_cost_usd"] < result["max_cost_usd"]


def test_two_in_the_same_second_are_two_jobs(faults: Faults, capsys: pytest.CaptureFixture[str]) -> None:
    names = set()
    for _ in range(2):
        assert main([*SYNTHETIC, "--json"]) == 0
        names.add(json.loads(capsys.readouterr().out)["name"])
    assert len(names) == 2


def test_asked_once(faults: Faults, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    asking = [*(word for word in SYNTHETIC if word != "--yes"), "--max-runtime", "24h"]
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    assert main(asking) == 2
    assert "no terminal to confirm on" in capsys.readouterr().err
    monkeypatch.setattr(sys, "stdin", Terminal("\n"))
    assert main(asking) == 2
    err = capsys.readouterr().err
    assert "at most $62.86" in err.partition("Continue? [y/N]")[0]
    assert "nothing was sent; give --yes" in err
    assert set(faults.seen) == {"GetCallerIdentity"}
    monkeypatch.setattr(sys, "stdin", Terminal("y\n"))
    assert main(asking) == 0
    assert agree.__doc__


def test_auto_without_cifar_trains_on_the_synthetic_set(
    faults: Faults, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(*_: Any, **__: Any) -> Path:
        raise Unreachable("nobody answers")

    monkeypatch.setattr(locate, "fetch", unreachable)
    assert main(["deploy", "--yes", "--dataset", "auto", "--json", "--region", "eu-west-1"]) == 0
    out, err = capsys.readouterr()
    assert "CIFAR-100 is not in data and could not be downloaded" in err
    assert "the job trains on the synthetic set" in err
    from wrn.aws.account.session import Session

    name = {"TrainingJobName": json.loads(out)["name"]}
    job = Session(region="eu-west-1").call("sagemaker", "DescribeTrainingJob", name)
    assert job["HyperParameters"] == {"dataset": "synthetic"}
    assert len(job["InputDataConfig"]) == 1
    assert main(["deploy", "--yes", "--dataset", "cifar100", "--region", "eu-west-1"]) == 2
    assert "nobody answers" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (
            ["--account", "111111111111"],
            "account: is for account 111111111111, but these credentials belong to 1234567",
        ),
        (["--role-arn", "arn:aws:iam::111111111111:role/x"], "role_arn: is for account 111111111111"),
        (["--bucket", "not-there"], "there is no not-there; create it, or leave out --bucket"),
        (["--fallback", "g5.xlarge,g9"], "fallback: 'g5.xlarge,g9' has 'g9', which is not an instance type"),
        (["--fallback", "g9.xlarge"], "'ml.g9.xlarge' is not one of"),
        (["--fallback", "xx-west-9:g5.xlarge"], 'region: "xx-west-9" has no known training images'),
        (["--fallback", "us-west-2:g5.xlarge", "--bucket", "b-1"], "bucket is only valid in eu-west-1"),
        (
            ["--notify", "arn:aws:sns:us-east-1:123456789012:t"],
            "the topic is in us-east-1, and events of jobs in eu-west-1",
        ),
        (["--notify", "me"], "notify: 'me' is neither the ARN of an SNS topic"),
        (["--full-access", "--role-arn", "arn:aws:iam::123456789012:role/x"], "full_access: a role given as"),
        (["--profile", "nobody"], "profile: there is no nobody in AWS's configuration"),
    ],
)
def test_mistakes(flags: list[str], words: str, faults: Faults, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*SYNTHETIC, *flags]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert words in err
    assert "CreateTrainingJob" not in faults.seen
    assert "CreateBucket" not in faults.seen


def test_no_secret_is_shown(
    faults: Faults, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from mocked_aws import SECRET

    for code in ("ExpiredToken", "SignatureDoesNotMatch", "AccessDenied"):
        faults.refuse("GetCallerIdentity", code, "no", status=403)
        assert main([*SYNTHETIC, "--debug"]) == 2
    faults.refuse("CreateTrainingJob", "AccessDeniedException", times=9)
    assert main([*SYNTHETIC, "--debug"]) == 2
    faults.planned.clear()
    assert main([*SYNTHETIC, "--debug"]) == 0
    out, err = capsys.readouterr()
    for secret in (SECRET, "AKIATESTTESTTESTTEST"):
        assert secret not in out + err
    assert "log in again (aws sso login, or aws configure)" in err


def test_stopped_in_the_middle(faults: Faults, capsys: pytest.CaptureFixture[str]) -> None:
    for operation in ("PutBucketPolicy", "CreateRole", "PutRolePolicy", "PutObject"):
        faults.fail(operation, KeyboardInterrupt())
        assert main([*SYNTHETIC, "--name", "mine"]) == 3
        assert "may be running" not in capsys.readouterr().err
    faults.fail("CreateTrainingJob", KeyboardInterrupt())
    assert main([*SYNTHETIC, "--name", "mine"]) == 3
    assert (
        "the job mine may be running: see wrn status mine --region eu-west-1, or wrn stop it" in capsys.readouterr().err
    )
    assert main([*SYNTHETIC, "--name", "mine"]) == 0


def test_a_region_that_the_account_has_not_enabled(faults: Faults, capsys: pytest.CaptureFixture[str]) -> None:
    elsewhere = [*SYNTHETIC, "--fallback", "g6.xlarge,us-west-2:g5.xlarge,af-south-1:g5.xlarge"]
    unknown = (403, "InvalidClientTokenId", "The security token included in the request is invalid")
    faults.planned["GetCallerIdentity"] = [None, None, unknown]  # known at home and in us-west-2
    assert main(elsewhere) == 2
    assert capsys.readouterr().err == (
        "wrn deploy: fallback: af-south-1 is not enabled in this account, or not for these credentials; enable it, or "
        "leave it out\n"
    )
    assert set(faults.seen) == {"GetCallerIdentity"}
    faults.refuse("GetCallerIdentity", "InvalidClientTokenId", status=403)
    assert main(elsewhere) == 2
    assert "log in again" in capsys.readouterr().err, "in the home region it means what it says"
    faults.planned["GetCallerIdentity"] = [None, (403, "AccessDenied", "no"), None]
    faults.jobs = [{"SecondaryStatus": "Training"}]
    assert main(elsewhere) == 0


def test_packages_go_along_where_a_network_may_be_closed(
    faults: Faults, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def channels() -> list[str]:
        return [channel["ChannelName"] for channel in faults.created[-1]["InputDataConfig"]]

    def nothing(*_: Any) -> Parcel:
        raise AwsError("packages: those for Python 3.12 cannot be fetched by pip (nobody answers); give an image")

    (tmp_path / "yaml-1.whl").write_bytes(b"wheel")
    wheels = Parcel((("yaml-1.whl", tmp_path / "yaml-1.whl"),), "abc")
    monkeypatch.setattr(deploy, "fetch_wheels", lambda *_: wheels)
    subnet = [*SYNTHETIC, "--vpc-config", "subnet-1,sg-1"]
    assert main([*subnet, "--name", "a"]) == 0
    assert channels() == ["code", "wheels"]
    monkeypatch.setattr(deploy, "fetch_wheels", nothing)
    assert main([*subnet, "--name", "b"]) == 0
    assert channels() == ["code"]
    told = (
        "packages: those for Python 3.12 cannot be fetched by pip (nobody answers); the job must reach a package index"
    )
    assert told in capsys.readouterr().err
    assert main([*subnet, "--network-isolation"]) == 2
    assert "(nobody answers); give an image" in capsys.readouterr().err


def test_monitor_hands_over(faults: Faults, monkeypatch: pytest.MonkeyPatch) -> None:
    followed = []

    def follow_job(session: Any, name: str, *, ceiling: float | None, json_lines: bool) -> int:
        followed.append((session.region, name, ceiling, json_lines))
        return 3

    monkeypatch.setattr("wrn.cli.logs.follow_job", follow_job)
    assert main([*SYNTHETIC, "--name", "mine", "--monitor", "--max-cost", "2"]) == 3
    assert followed == [("eu-west-1", "mine", pytest.approx(2.0, abs=0.01), False)]


def test_a_limit_in_money_holds_by_the_price_of_the_region(
    faults: Faults, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def nobody(*_: Any, **__: Any) -> Any:
        raise AwsError("prices: nobody answers")

    dear = {"ml.g6e.xlarge": Price(5.22, "eu-west-1", Source("AWS Price List", "2026-11-01"))}
    hours = {}
    for name, region in (("home", "us-east-1"), ("dear", "eu-west-1")):
        monkeypatch.setattr(deploy, "live_prices", lambda *_, **__: dear)
        words = ["--dataset", "synthetic", "--region", region, "--max-cost", "5", "--json"]
        assert main(["deploy", "--yes", *words]) == 0
        hours[name] = json.loads(capsys.readouterr().out)["max_runtime_hours"]
    assert hours["home"] == pytest.approx(2 * hours["dear"], rel=0.05)
    monkeypatch.setattr(deploy, "live_prices", nobody)
    assert main([*SYNTHETIC, "--max-cost", "5"]) == 2
    assert "the price of another region (prices: nobody answers); give --price-per-hour" in capsys.readouterr().err
    assert main([*SYNTHETIC, "--max-cost", "5", "--price-per-hour", "1.5"]) == 0
    assert main(SYNTHETIC) == 0
    assert "at us-west-2's price; give that of eu-west-1 as --price-per-hour" in capsys.readouterr().err


def test_a_price_list_that_does_not_answer_is_asked_once(
    faults: Faults, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def unreachable(region: str, **_: Any) -> dict[str, Price]:
        asked.append(region)
        raise NoAnswer("prices: AWS did not answer")

    monkeypatch.setattr(deploy, "live_prices", unreachable)
    assert main([*SYNTHETIC, "--fallback", "eu-north-1:g6.xlarge,sa-east-1:g6.xlarge"]) == 0
    assert asked == ["eu-west-1"]


def test_a_limit_in_money_holds_by_the_price_of_the_place_that_is_gone_on_to(
    faults: Faults, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def prices(region: str, **_: Any) -> dict[str, Price]:
        asked.append(region)
        if region == "sa-east-1":
            raise AwsError("prices: nobody answers")
        return {"ml.g5.xlarge": Price(2.816, region, Source("AWS Price List", "2026-11-01"))}

    monkeypatch.setattr(deploy, "live_prices", prices)
    machine = ["--region", "us-east-1", "--instance-type", "ml.g5.xlarge"]
    flags = ["deploy", "--yes", "--dataset", "synthetic", *machine, "--max-cost", "5", "--json"]
    elsewhere = [*flags, "--fallback", "us-west-2:g5.xlarge,eu-west-1:g5.xlarge,g6.xlarge", "--wait-for-capacity", "0s"]
    hours = {}
    for name, refused in (("home", 0), ("as-home", 1), ("dear", 2)):
        faults.refuse("CreateTrainingJob", "ResourceLimitExceeded", "limit is 0 Instances", times=refused)
        faults.jobs = [{"SecondaryStatus": "Training"}]
        assert main([*elsewhere, "--name", name]) == 0
        told = capsys.readouterr()
        assert json.loads(told.out)["max_cost_usd"] == pytest.approx(5.0, abs=0.01)
        assert "then ml.g5.xlarge in eu-west-1 for at most 1 h 42 min and $5.00, then" in told.err
        hours[name] = json.loads(told.out)["max_runtime_hours"]
    assert asked == ["eu-west-1"] * 3
    assert hours["home"] == hours["as-home"] == pytest.approx(2 * hours["dear"], rel=0.05)
    assert [request.get("Environment") for request in faults.created] == [
        None,
        None,
        {"WRN_PRICE": "2.816 eu-west-1 2026-11-01"},
    ]
    sent = len(faults.created)
    for place, why in (
        ("sa-east-1:g5.xlarge", "prices: nobody answers"),
        ("eu-west-1:g6.xlarge", "has no ml.g6.xlarge"),
    ):
        assert main([*flags, "--fallback", place]) == 2
        error = capsys.readouterr().err
        assert "max_cost: would use the price of another region" in error
        assert why in error
        assert "out of --fallback, or give --max-runtime instead" in error
    assert len(faults.created) == sent
    free = [word for word in flags if word not in ("--max-cost", "5")]
    assert main([*free, "--max-runtime", "24h", "--fallback", "sa-east-1:g5.xlarge"]) == 0
    assert "in sa-east-1 for at most 24 h and $33.91, at us-west-2's price" in capsys.readouterr().err


def test_a_price_that_was_given_is_recorded(faults: Faults) -> None:
    assert main([*SYNTHETIC, "--price-per-hour", "1.5"]) == 0
    assert faults.created[0]["Environment"] == {"WRN_PRICE": "1.5 eu-west-1 given"}


def test_every_line_of_a_followed_job_is_json(
    faults: Faults, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from fake_account import make_log
    from fake_job import epoch_line
    from wrn.cli import logs

    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    make_log("mine", ["hello", epoch_line(1)], 1000 * int(time.time()))
    monkeypatch.setattr(logs, "follow_job", functools.partial(logs.follow_job, look=0.01, settle=0))
    assert main([*SYNTHETIC, "--name", "mine", "--json", "--monitor", "--max-cost", "2"]) == 0
    told = capsys.readouterr()
    assert f"code: that of {source_root()} (" in told.err
    lines = [json.loads(line) for line in told.out.splitlines()]
    assert lines[0]["code_folder"] == str(source_root())
    kinds = [line["type"] for line in lines]
    assert (kinds[0], kinds[-1]) == ("started", "end")
    assert set(kinds[1:-1]) == {"phase", "line", "epoch"}
    assert (lines[0]["name"], lines[0]["max_cost_usd"]) == ("mine", pytest.approx(2.0, abs=0.01))
    assert [line["message"] for line in lines if line["type"] == "line"] == ["hello", epoch_line(1)]
    assert (lines[-1]["job"], lines[-1]["status"], lines[-1]["ceiling_usd"]) == (
        "mine",
        "Completed",
        lines[0]["max_cost_usd"],
    )
