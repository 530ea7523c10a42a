"""`wrn deploy --dry-run`: every request as JSON, with no account, no network and no torch."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from data_files import write_pictures
from wrn.aws.s3.code_archive import source_root
from wrn.cli import main
from wrn.cli.deploy import read_task
from wrn.cli.deploy_flags import duration, minutes, moments, network, read_tags

pytest.importorskip("botocore", reason="needs the extra aws")


@pytest.fixture(autouse=True)
def _no_region(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.chdir(tmp_path)


def test_a_dry_run_prints_all_requests(capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--recipe", "record", "--lr", "0.2", "--spot", "--instance_type", "ml.g5.2xlarge", "--region", "eu-west-1"]
    flags += ["--max-cost", "10", "--price-per-hour", "1.515", "--tags", "team=vision,owner=me", "--name", "my-job"]
    flags += ["--account", "999988887777", "--vpc-config", "subnet-1,sg-1", "--no-amp"]
    assert main(["deploy", "--dry-run", *flags]) == 0
    out, err = capsys.readouterr()
    calls = {call["operation"]: call for call in json.loads(out)}
    job = calls["CreateTrainingJob"]["request"]
    assert job["HyperParameters"] == {
        **{"recipe": "record", "lr": "0.2", "amp": "false"},
        # 6.5 h less a twentieth and three minutes, in minutes; never more epochs than the recipe has.
        **{"budget_minutes": "368.5", "budget_epochs": "200"},
    }
    assert job["TrainingJobName"] == "my-job"
    assert job["ResourceConfig"]["InstanceType"] == "ml.g5.2xlarge"
    assert job["EnableManagedSpotTraining"]
    assert {"Key": "owner", "Value": "me"} in job["Tags"]
    assert "wrn-999988887777-eu-west-1" in job["OutputDataConfig"]["S3OutputPath"]
    assert {"CreateBucket", "PutBucketPolicy", "CreateRole", "PutRolePolicy"} < set(calls)
    lines = err.splitlines()
    assert (
        lines[0] == "1 x ml.g5.2xlarge in eu-west-1 for at most 6 h 31 min; at most $10.00 (on demand; spot is cheaper)"
    )
    assert re.fullmatch(rf"code: that of {re.escape(str(source_root()))} \(\d+ kB\)", lines.pop(1))
    assert lines[1] == "expected: about 12 h 57 min and $7.85 (spot price assumed), under the assumptions of wrn plan"
    assert lines[2].startswith("ml.g5.2xlarge is neither the cheapest, ml.g6e.xlarge at ")
    assert lines[3].startswith(
        "careful: ml.g5.2xlarge is expected to take 12 h 57 min, but the job is stopped after 6 h 31 min, "
        "having trained as many epochs as fit; give --max-cost 31, or"
    )
    assert lines[4] == "data: CIFAR-100 is not in data; deploying fetches it"


def test_machines_are_compared_at_the_costs_that_the_job_would_have(capsys: pytest.CaptureFixture[str]) -> None:
    machine = ["--instance-type", "ml.g5.xlarge"]

    def expected(*flags: str) -> list[float]:
        """The cost of the job, and of the cheapest instance if that is another."""
        assert main(["deploy", "--dry-run", *machine, *flags]) == 0
        return [float(text) for text in re.findall(r"(?:min|h) and \$(\d+\.\d\d)", capsys.readouterr().err)][:2]

    demand, spot = expected(), expected("--spot")
    assert demand[0] > demand[1]
    assert spot == pytest.approx([0.4 * cost for cost in demand], abs=0.01)
    assert main(["deploy", "--dry-run", *machine, "--spot", "--price-per-hour", "0.1"]) == 0
    assert "ml.g5.xlarge is the cheapest that can run this" in capsys.readouterr().err


def test_what_was_assumed_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["deploy", "--dry-run"]) == 0
    err = capsys.readouterr().err
    assert main(["deploy", "--dry-run", "--instance-type", "ml.m5.xlarge"]) == 0
    assert "24 h; the price is unknown; give --price-per-hour" in capsys.readouterr().err
    assert "111122223333 stands for your account: give --account or --role-arn" in err
    assert main(["deploy", "--dry-run", "--role-arn", "arn:aws:iam::999988887777:role/theirs"]) == 0
    out, err = capsys.readouterr()
    assert "stands for" not in err
    assert "wrn-999988887777-us-east-1" in out
    assert "CreateRole" not in out


def test_the_region_of_the_environment(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("AWS_REGION", "eu-west-3")
    assert main(["deploy", "--dry-run"]) == 0
    assert "in eu-west-3 for" in capsys.readouterr().err
    monkeypatch.setenv("AWS_REGION", "here; rm -rf /")
    assert main(["deploy", "--dry-run"]) == 2
    assert "region: 'here; rm -rf /' is not a region" in capsys.readouterr().err


def test_the_data_here_goes_by_its_content(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def data_uri(*flags: str) -> str:
        assert main(["deploy", "--dry-run", *flags]) == 0
        job = json.loads(capsys.readouterr().out)[-1]["request"]
        return str(job["InputDataConfig"][1]["DataSource"]["S3DataSource"]["S3Uri"])

    assert data_uri().endswith("/wrn/data/cifar100/eb9058c3a382ffc7106e4002c42a8d85/"), "the official archive"
    assert data_uri("--data-uri", "s3://mine/x/") == "s3://mine/x/"
    (tmp_path / "data").mkdir()
    (tmp_path / "data/cifar-100-python.tar.gz").write_bytes(b"packed again")
    assert data_uri().endswith("/wrn/data/cifar100/a34821935caed98957c670914abbba37/")
    target = tmp_path / "job.json"
    assert main(["deploy", "--write-json", str(target)]) == 0
    assert "then: aws s3 cp data/cifar-100-python.tar.gz s3://wrn-111122223333-us-east-1/" in capsys.readouterr().err


def test_whose_prices_a_dry_run_shows(capsys: pytest.CaptureFixture[str]) -> None:
    def told(*flags: str) -> bool:
        assert main(["deploy", "--dry-run", *flags]) == 0
        return (
            "prices: those of the US here; a real deployment uses and records AWS's prices for eu-west-1"
            in capsys.readouterr().err
        )

    assert told("--region", "eu-west-1")
    assert not told("--region", "eu-west-1", "--price-per-hour", "1.5")
    assert not told("--region", "us-west-2")


def test_the_users_own_images_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_pictures(tmp_path / "mine")
    flags = ["--dataset", "folder", "--data-dir", str(tmp_path / "mine")]
    assert main(["deploy", "--dry-run", *flags]) == 0
    err = capsys.readouterr().err
    assert "estimated for the 6 training images in the folder" in err
    assert "expected: about 4 min" in err
    assert main(["deploy", "--dry-run", "--dataset", "folder", "--data-uri", "s3://theirs/pictures"]) == 0
    assert "assumed: the folder has 50,000 training images; --train-images sets" in capsys.readouterr().err


def test_the_rights_that_deploying_needs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["deploy", "--print-policy", "--fallback", "us-west-2:g5.xlarge"]) == 0
    out, err = capsys.readouterr()
    assert "stands for your account" in err
    assert "iam:PutRolePolicy with iam:PassRole is a broad grant" in err
    assert "permissions boundary" in err
    assert "because of that tag, `wrn teardown` deletes wrn-training, whoever created it" in err
    bucket = json.loads(out)["Statement"][0]
    assert bucket["Resource"] == [f"arn:aws:s3:::wrn-111122223333-{place}" for place in ("us-east-1", "us-west-2")]
    assert main(["deploy", "--print-policy", "--role-arn", "arn:aws:iam::999988887777:role/theirs"]) == 0
    out, err = capsys.readouterr()
    assert "PutRolePolicy" not in out + err
    assert err == "attach this policy to whoever deploys\n"


def test_where_it_goes_on_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    fallback = ["--fallback", "g6.xlarge,us-west-2:g5.xlarge", "--max-runtime", "24h"]
    assert main(["deploy", "--dry-run", "--spot", "--on-demand-after", "20m", *fallback]) == 0
    err = capsys.readouterr().err
    places = err.partition("without quota or capacity: ")[2].splitlines()[0].split(", then ")
    assert places == [
        "ml.g6.xlarge in us-east-1 (spot) for at most 24 h and $27.14",
        "ml.g5.xlarge in us-west-2 (spot) for at most 24 h and $33.91",
        "ml.g6e.xlarge in us-east-1 for at most 24 h and $62.86",
        "ml.g6.xlarge in us-east-1 for at most 24 h and $27.14",
        "ml.g5.xlarge in us-west-2 for at most 24 h and $33.91",
    ]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--lr", "-1"], ["lr (flag): '-1' is not allowed"]),
        (["--sopt"], ["--sopt: is not a known flag; did you mean --spot?"]),
        (["--local"], ["dry_run: runs no job; leave out --dry-run or --local"]),
        (["--local-dir", "x"], ["dry_run: runs no job; leave out --dry-run or --local"]),
        (["--local", "--data-uri", "s3://b/x"], ["data_uri: with --local the data comes from this machine"]),
        (["--local", "--spot", "--interrupt-after", "9,0"], ["'9,0' must be times of at least 1 s"]),
        (["--local", "--spot", "--interrupt-after", "9,soon"], ["interrupt_after: '9,soon' is not a time"]),
        (["--instance-type", "ml.g5.xlarg"], ["did you mean ml.g5.xlarge?; set --instance-type"]),
        (["--name", "my job", "--instance-count", "2x"], ["instance_count: '2x' must be a whole number above 0"]),
        (["--name", "my job", "--kms-key", "a;b"], ["kms_key: 'a;b' is not a KMS key"]),
        (
            ["--name", "my job", "--keep-warm", "7h"],
            ["'my job' must be letters, digits and hyphens", "set --name", "21600"],
        ),
        (["--max-runtime", "soon", "--account", "12"], ["'soon' is not a time", "account: '12' is not an account"]),
        (["--max-wait", "9h", "--keep-warm", "30m"], ["keep_warm: spot instances cannot be kept"]),
        (["--vpc-config", "subnet-1", "--tags", "x"], ["as in subnet-a,subnet-b,sg-c", "tags: 'x' must be K=V"]),
        (["--max-cost", "5", "--instance-type", "ml.m5.xlarge"], ["max_cost: the price of ml.m5.xlarge is unknown"]),
        (["--role-name", "a b"], ["role_name: 'a b' is not a role name; give letters, digits and + = , . @ - _"]),
        (
            ["--role-name", "service-role/X"],
            ["'service-role/X' is a name with a path", "ARN as --role-arn"],
        ),
        (["--role-name", "arn:aws:iam::1:role/X"], ["is an ARN; give the role's ARN as --role-arn"]),
        (["--output-dir", "x", "--model-dir", "y"], ["output_dir: x is a path", "model_dir: y is a path"]),
    ],
)
def test_mistakes_are_told_all_at_once(flags: list[str], words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["deploy", "--dry-run", *flags]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    for word in words:
        assert word in err
    assert all(line.startswith("wrn deploy: ") for line in err.splitlines())


@pytest.mark.parametrize(
    ("flags", "switched"),
    [
        (["--max-wait", "30h"], {"spot": "spot: on, as --max-wait needs it"}),
        (["--on-demand-after", "20m"], {"spot": "spot: on, as --on-demand-after needs it"}),
        (["--budget", "5"], {"alarms": "alarms: on, as --budget needs it"}),
        (["--local-dir", "x"], {"local": "local: on, as --local-dir needs it"}),
        (
            ["--interrupt-after", "60"],
            {"local": "local: on, as --interrupt-after needs it", "spot": "spot: on, as --interrupt-after needs it"},
        ),
        (["--max-wait", "30h", "--spot"], {}),
        ([], {}),
    ],
)
def test_a_flag_turns_the_switch_on_that_it_needs(flags: list[str], switched: dict[str, str]) -> None:
    task = read_task(flags)
    assert set(task.changes) == set(switched.values())
    on = {name for name in ("spot", "alarms", "local") if task.flags[name]}
    assert on == set(switched) | ({"spot"} if "--spot" in flags else set())
    assert task.options.spot == task.flags["spot"]
    assert task.wishes.notices.alarms == task.flags["alarms"]


def test_deploying_says_what_adapts(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["deploy", "--dry-run", "--epochs", "2", "--max-wait", "30h"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)[-1]["request"]["HyperParameters"] == {"epochs": "2"}
    assert {"warmup_epochs: 0.1 instead of 5, as epochs is 2", "spot: on, as --max-wait needs it"} <= set(
        err.splitlines()
    )


def test_a_recipe_of_ones_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The container has no such file: its keys are sent as hyperparameters."""
    own = tmp_path / "mine.yaml"
    own.write_text("epochs: 30\nlr: 0.3\n")
    assert main(["deploy", "--dry-run", "--recipe", str(own)]) == 0
    job = json.loads(capsys.readouterr().out)[-1]["request"]
    assert job["HyperParameters"] == {"epochs": "30", "lr": "0.3"}
    assert job["TrainingJobName"].startswith("wrn-mine-")


def test_no_network_no_credentials_no_torch() -> None:
    code = (
        "import socket, sys\n"
        "def refuse(*a, **k): raise AssertionError('network')\n"
        "socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse\n"
        "from wrn.cli import main\n"
        "code = main(['deploy', '--dry-run'])\n"
        "sys.exit(code or ('torch' in sys.modules) or ('boto3' in sys.modules))\n"
    )
    environ = {"PATH": "/usr/bin:/bin", "HOME": "/nowhere", "PYTHONPATH": ":".join(filter(None, sys.path))}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environ, check=False)
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)) == 9


def test_words_of_flags() -> None:
    assert [duration(text) for text in ("90", "90s", "1.5h", "2d")] == [90, 90, 5400, 172800]
    assert [minutes(text) for text in ("20", "1.5", "90s", "2h")] == [1200, 90, 90, 7200]
    assert network("sg-1, subnet-2,subnet-1") == (("subnet-2", "subnet-1"), ("sg-1",))
    assert moments("60,2m") == (60, 120)
    assert read_tags("a=b=c, d=") == {"a": "b=c", "d": ""}
