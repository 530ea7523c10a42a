"""A deployment by hand: the real aws command against the stand-in, with the very commands that people are told."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

pytest.importorskip("moto", reason="needs moto[server], of the extra dev")

from aws_account import client, describe, keys_of
from data_files import write_pictures
from deployed import AWS, ROOT, TINY, Desk
from standin import StandIn
from wrn.aws.account.policies import role_policy, trust_policy
from wrn.aws.jobs.options import DeployOptions

pytestmark = pytest.mark.skipif(not AWS.exists(), reason="needs awscli, of the extra dev")

BUCKET = f"wrn-{StandIn.account}-us-east-1"
PAGE = ROOT / "docs/sagemaker.md"


@pytest.fixture
def desk(aws: StandIn, tmp_path: Path) -> Desk:
    """In a folder with a space in its name; the data is there."""
    folder = tmp_path / "my desk"
    write_pictures(folder / "pictures", each=4)
    return Desk(aws, folder, more={"WRN_DATA_DIR": "pictures"})


def shell(desk: Desk, script: str) -> str:
    """What bash prints; every command must succeed. `aws` and `wrn` are those beside this Python."""
    environment = {**desk.environment, "PATH": f"{AWS.parent}:{desk.environment['PATH']}"}
    command = ["bash", "-euo", "pipefail", "-c", script]
    done = subprocess.run(
        command, cwd=desk.folder, env=environment, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def blocks() -> list[str]:
    """The commands of the page's first section, a small run in the place of the real one."""
    page = PAGE.read_text(encoding="utf-8").partition("\n## By hand")[2].partition("\n## ")[0]
    for shown, here in {
        "--recipe standard --instance-type g6e.xlarge": f"--dataset folder --epochs 2 {' '.join(TINY)}",
        "aws s3 cp data/cifar-100-python.tar.gz": "aws s3 cp --recursive pictures",
    }.items():
        assert page.count(shown) == 1, shown
        page = page.replace(shown, here)
    return re.findall(r"^```sh\n(.*?)^```", page, flags=re.MULTILINE | re.DOTALL)


def test_the_page_works_as_typed(desk: Desk) -> None:
    found = blocks()
    start = next(number for number, block in enumerate(found) if "create-training-job" in block) + 1
    assert (start, len(found)) == (6, 8)
    before = "\n".join([*found[:start], "declare -p ACCOUNT BUCKET JOB > variables"])
    shell(desk, before)
    (entry,) = client("sagemaker").list_training_jobs()["TrainingJobSummaries"]
    name = entry["TrainingJobName"]
    assert re.fullmatch(r"wrn-standard-\d{8}-\d{6}", name)
    job = desk.aws.job(name)
    job.join()
    assert job.status == "Completed", f"{job.reason}\n{job.output}"

    after = shell(desk, "\n".join([". ./variables", *found[start:]]))
    assert [line for line in after.splitlines() if " epoch=2 " in line]
    told = json.loads(after[after.index("[\n") : after.index("]") + 1])
    assert told[:3] == ["Completed", "Completed", None]
    assert (desk.folder / "job/model/model.safetensors").is_file()
    assert re.search(r"top-1\W+\d", after)

    # What was made by hand is what `wrn deploy` makes, and `wrn teardown` finds it.
    iam = client("iam")
    options = DeployOptions(name="any", account=StandIn.account, instance_type="ml.m5.large")
    assert iam.get_role(RoleName="wrn-training")["Role"]["AssumeRolePolicyDocument"] == trust_policy(StandIn.account)
    policy = iam.get_role_policy(RoleName="wrn-training", PolicyName="wrn-training-us-east-1")
    assert policy["PolicyDocument"] == role_policy(options)
    desk.wrn("teardown", "--yes", "--everyones")
    assert client("s3").list_buckets()["Buckets"] == []
    assert iam.list_roles()["Roles"] == []


def test_the_printed_commands_work_as_they_are(desk: Desk) -> None:
    """Pasted into a shell, although the paths have spaces; of the folder only the images are sent."""
    (desk.folder / "pictures/notes.txt").write_text("mine")
    flags = ("--account", StandIn.account, "--name", "printed", "--dataset", "folder", "--epochs", "1", *TINY)
    data = ("--data-dir", str(desk.folder / "pictures"))
    said = desk.wrn("deploy", "--write-json", "it's here/job.json", *data, *flags).err
    commands = re.findall(r"^(?:next|then): (aws .*)$", said, flags=re.MULTILINE)
    assert [command.split()[1:3] for command in commands] == [
        ["iam", "create-role"],
        ["iam", "put-role-policy"],
        ["s3", "mb"],
        ["s3api", "put-bucket-tagging"],
        ["s3", "cp"],
        ["s3", "cp"],
        ["sagemaker", "create-training-job"],
    ]
    shell(desk, "\n".join(commands))
    desk.aws.job("printed").wait_for("Training", "Uploading", "Completed")
    channels = [entry["DataSource"]["S3DataSource"]["S3Uri"] for entry in describe("printed")["InputDataConfig"]]
    sent = keys_of(BUCKET)
    code, images = ([key for key in sent if f"s3://{BUCKET}/{key}".startswith(channel)] for channel in channels)
    assert len(code) == 1
    assert len(images) == len([*desk.folder.glob("pictures/*/*/*.png")])
    assert "notes.txt" not in str(sent)
