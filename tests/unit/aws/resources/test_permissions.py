"""The permissions of teardown: to remove what wrn created, not to create or run anything."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from wrn.aws.jobs.options import DeployOptions
from wrn.aws.resources.permissions import LOOK, clearing_policy

if TYPE_CHECKING:
    from mocked_aws import Faults

OPTIONS = DeployOptions(name="job", account="123456789012", region="eu-west-1")
OWN = "arn:aws:s3:::wrn-123456789012-eu-west-1"


def test_what_is_ours_goes_and_nothing_else() -> None:
    statements = {
        entry["Sid"]: entry for entry in clearing_policy([OPTIONS, replace(OPTIONS, bucket="mine")])["Statement"]
    }
    everywhere = [entry for entry in statements.values() if "*" in entry["Resource"]]
    assert [entry["Action"] for entry in everywhere] == [list(LOOK)]
    assert all(action.split(":")[1].startswith(("List", "Get", "Describe", "View")) for action in LOOK)
    assert statements["EmptyBuckets"]["Resource"] == [
        f"{OWN}/*", "arn:aws:s3:::mine/wrn/code/*", "arn:aws:s3:::mine/wrn/data/*",
        "arn:aws:s3:::mine/wrn/checkpoints/*", "arn:aws:s3:::mine/wrn/output/*",
    ]  # fmt: skip
    assert statements["DeleteBuckets"]["Resource"] == [OWN], "the user's own stays"
    assert statements["EndJobsAndEndpoints"]["Condition"]["StringEquals"] == {"aws:ResourceTag/created-by": "wrn"}
    assert statements["DeleteRole"]["Resource"] == ["arn:aws:iam::123456789012:role/*"], "--role-name gives it any name"
    assert statements["DeleteRole"]["Condition"] == statements["EndJobsAndEndpoints"]["Condition"]
    assert "cloudwatch:ListDashboards" not in LOOK, "a dashboard has no tag, and is requested by name"
    actions = {action for entry in statements.values() for action in entry["Action"]}
    assert not {action for action in actions if action.split(":")[1].startswith(("Create", "Put", "Pass"))}
    assert len(json.dumps(clearing_policy([OPTIONS]), separators=(",", ":"))) < 6144  # of a managed policy


def test_printed_without_an_account(faults: Faults, capsys: pytest.CaptureFixture[str]) -> None:
    from wrn.cli import main

    flags = ["teardown", "--print-policy", "--region", "eu-west-1"]
    assert main([*flags, "--account", OPTIONS.account, "--bucket", "mine"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out) == clearing_policy([OPTIONS, replace(OPTIONS, bucket="mine")])
    assert err == ""
    assert main(flags) == 0
    out, err = capsys.readouterr()
    assert json.loads(out) == clearing_policy([replace(OPTIONS, account="111122223333")])
    assert err == "111122223333 stands for your account: give --account\n"
    assert faults.seen == []
    assert main(["teardown", "--account", OPTIONS.account]) == 2
    assert "account: only goes with --print-policy" in capsys.readouterr().err
