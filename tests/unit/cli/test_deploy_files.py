"""`wrn deploy --write-json`: the files and the commands, without an account."""

from __future__ import annotations

import json
import shlex
import tarfile
from pathlib import Path

import pytest

from data_files import write_pictures
from wrn.aws.account.session import Session
from wrn.aws.jobs.launch import Launched
from wrn.aws.jobs.options import DeployOptions
from wrn.aws.s3.dataset_files import Parcel
from wrn.cli import main
from wrn.cli.aws_flags import where
from wrn.cli.deploy_files import uploads_of
from wrn.cli.deploy_report import outcome

pytest.importorskip("botocore", reason="needs the extra aws")

SYNTHETIC = ("--dataset", "synthetic")


@pytest.fixture(autouse=True)
def _at_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "aws").write_text('[profile "my own"]\nregion = us-east-1\n')
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "aws"))
    monkeypatch.chdir(tmp_path)


def written(capsys: pytest.CaptureFixture[str], target: str, *flags: str) -> list[list[str]]:
    """The words of each command that is printed."""
    assert main(["deploy", "--write-json", target, *flags]) == 0
    out, err = capsys.readouterr()
    assert out == ""
    steps = [line.partition(": ")[2] for line in err.splitlines() if line.startswith(("next: ", "then: "))]
    return [shlex.split(step) for step in steps]


def document(folder: Path, name: str) -> dict[str, list[dict[str, object]]]:
    return dict(json.loads((folder / name).read_text()))


def test_the_files_and_the_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    account = ("--account", "999988887777")
    steps = written(capsys, "it's here/job.json", *SYNTHETIC, *account, "--profile", "my own", "--full-access")
    folder = tmp_path / "it's here"
    (archive,) = folder.glob("wrn-*.tar.gz")
    names = {"job.json", "trust-policy.json", "role-policy.json", archive.name}
    assert {path.name for path in folder.iterdir()} == names
    (channel,) = json.loads((folder / "job.json").read_text())["InputDataConfig"]
    where = channel["DataSource"]["S3DataSource"]["S3Uri"]
    assert where.endswith(f"/wrn/code/{archive.name.removesuffix('.tar.gz')}/")
    with tarfile.open(archive) as code:
        assert "src/wrn/aws/container.sh" in code.getnames()
    assert document(folder, "trust-policy.json")["Statement"][0]["Principal"] == {"Service": "sagemaker.amazonaws.com"}
    assert "999988887777" in (folder / "trust-policy.json").read_text()
    assert "wrn-999988887777-us-east-1/wrn/checkpoints/*" in (folder / "role-policy.json").read_text()
    assert {tuple(step[:3]) for step in steps} == {("aws", "--profile", "my own")}
    assert [step[3:5] for step in steps] == [
        ["iam", "create-role"],
        ["iam", "put-role-policy"],
        ["iam", "attach-role-policy"],
        ["s3", "mb"],
        ["s3api", "put-bucket-tagging"],
        ["s3", "cp"],
        ["sagemaker", "create-training-job"],
    ]
    assert steps[0][8] == "file://it's here/trust-policy.json"
    assert steps[5][5:] == [f"it's here/{archive.name}", where]
    assert steps[6][-1] == "file://it's here/job.json"


def test_what_is_there_already_is_not_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    role = "arn:aws:iam::999988887777:role/theirs"
    steps = written(capsys, "job.json", *SYNTHETIC, "--role-arn", role, "--bucket", "mine")
    assert [step[1:3] for step in steps] == [["s3", "cp"], ["sagemaker", "create-training-job"]]
    assert document(tmp_path, "role-policy.json")["Statement"], "for whoever looks after that role"


def test_the_packages_of_a_closed_network(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    subnet = ("--vpc-config", "subnet-1,sg-1")
    assert main(["deploy", "--write-json", "job.json", *SYNTHETIC, *subnet]) == 0
    wheels = json.loads((tmp_path / "job.json").read_text())["InputDataConfig"][1]
    assert wheels["ChannelName"] == "wheels"
    assert f"to {wheels['DataSource']['S3DataSource']['S3Uri']}\n" in capsys.readouterr().err
    written(capsys, "job.json", *SYNTHETIC, *subnet, "--image-uri", "auto")
    channels = json.loads((tmp_path / "job.json").read_text())["InputDataConfig"]
    assert [channel["ChannelName"] for channel in channels] == ["code"]


def test_nobody_elses_file_is_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    theirs = tmp_path / "role-policy.json"
    theirs.write_text('{"Statement": []}')
    assert main(["deploy", "--write-json", "job.json", *SYNTHETIC]) == 2
    assert "role-policy.json is not from wrn" in capsys.readouterr().err
    assert [path.name for path in tmp_path.glob("*.json")] == ["role-policy.json"]
    assert theirs.read_text() == '{"Statement": []}'
    for name in ("role-policy.json", "x/trust-policy.json"):
        assert main(["deploy", "--write-json", name, *SYNTHETIC]) == 2
        assert "give another file, such as job.json" in capsys.readouterr().err
    theirs.unlink()
    for account in ("999988887777", "999988887778"):  # its own it replaces
        written(capsys, "job.json", *SYNTHETIC, "--account", account)
        assert account in theirs.read_text()


def test_a_place_that_cannot_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    for target in ("file/job.json", "folder"):
        assert main(["deploy", "--write-json", target, *SYNTHETIC]) == 2
        assert f"write_json: {target} cannot be written (" in capsys.readouterr().err


def test_the_data_goes_where_the_job_looks_for_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pictures = write_pictures(tmp_path / "my pictures", each=4)
    steps = written(capsys, "job.json", "--dataset", "folder", "--data-dir", str(pictures), "--epochs", "6")
    channels = json.loads((tmp_path / "job.json").read_text())["InputDataConfig"]
    to = channels[1]["DataSource"]["S3DataSource"]["S3Uri"]
    assert steps[-2][1:6] == ["s3", "cp", "--recursive", f"{pictures}/", to]
    assert {word for word in steps[-2] if "clude" in word} == {"--exclude", "--include=train/*", "--include=test/*"}
    few = Parcel((("a/meta", Path("x y/meta")), ("a/train", Path("x y/train"))), "key")
    assert uploads_of(few, "s3://b/k/") == [
        ["s3", "cp", "x y/meta", "s3://b/k/a/meta"],
        ["s3", "cp", "x y/train", "s3://b/k/a/train"],
    ]


def test_a_profile_is_quoted_wherever_it_is_printed() -> None:
    assert shlex.split(where(Session(region="eu-west-1", profile="my own"))) == [
        *("--region", "eu-west-1", "--profile", "my own")
    ]
    session = Session(region="us-east-1", profile="my own")
    job = Launched("j", session, DeployOptions(name="j", account="999988887777"))
    commands = [line for line in outcome(job, None, None, "my own") if line.startswith("  wrn ")]
    assert len(commands) == 4
    assert all("--profile 'my own'" in line for line in commands)
