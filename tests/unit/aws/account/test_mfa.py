"""Logging in with an MFA code: asked for once, kept where the aws command keeps it, one sentence per failure."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from wrn.aws.account import credentials, waiting
from wrn.aws.account.credentials import boto_session, forget_sessions
from wrn.aws.account.errors import CredentialsRefused, NoCredentials
from wrn.aws.account.session import Session
from wrn.aws.catalog.prices import live_prices
from wrn.cli import main

if TYPE_CHECKING:
    from mocked_aws import Faults

DEVICE = "arn:aws:iam::123456789012:mfa/anna"
DEPLOY = ["deploy", "--yes", "--dataset", "synthetic", "--region", "eu-west-1", "--profile", "mfa"]


class Prompts(list[str]):
    """The prompts that were shown; `codes` are entered, the last one again and again."""

    def __init__(self) -> None:
        super().__init__()
        self.codes = ["123456"]

    def ask(self, prompt: str) -> str:
        self.append(prompt)
        return self.codes.pop(0) if len(self.codes) > 1 else self.codes[0]


@pytest.fixture
def prompts(faults: Faults, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Prompts:
    """A user folder with a profile `mfa`, which assumes a role with a code, and somebody at the terminal."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config").write_text(
        "[profile mfa]\nrole_arn = arn:aws:iam::123456789012:role/admin\nsource_profile = keys\n"
        f"mfa_serial = {DEVICE}\n[profile keys]\naws_access_key_id = AKIATEST\naws_secret_access_key = secret\n"
    )
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    asked = Prompts()
    monkeypatch.setattr("wrn.aws.account.credentials.getpass.getpass", asked.ask)
    monkeypatch.setattr(credentials, "_has_terminal", lambda: True)
    return asked


def key_of(session: Session) -> str:
    """The key that signs its requests."""
    return str(session.client("sts")._request_signer._credentials.access_key)


def kept(home: Path) -> list[Path]:
    return list((home / ".aws/cli/cache").glob("*"))


def test_one_code_for_a_deployment_and_none_for_the_next_command(
    prompts: Prompts, faults: Faults, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Across two regions, all services, and the price list."""
    monkeypatch.setattr("wrn.cli.deploy.live_prices", live_prices)
    faults.say("GetProducts", {"PriceList": []})
    faults.refuse("CreateTrainingJob", "ResourceLimitExceeded")
    everything = ["--alarms", "--notify", "me@example.com", "--fallback", "us-west-2:g6.xlarge", "--name", "mine"]
    assert main([*DEPLOY, *everything]) == 0
    assert prompts == [f"Enter MFA code for {DEVICE}: "]
    assert faults.seen.count("AssumeRole") == 1
    assert {"GetProducts", "CreateBudget", "Subscribe", "PutObject", "GetRole"} <= set(faults.seen)
    (file,) = kept(tmp_path)
    assert (file.stat().st_mode & 0o777, file.suffix) == (0o600, ".json")
    assert json.loads(file.read_text())["Credentials"]["Expiration"]
    forget_sessions()
    assert main(["jobs", "--profile", "mfa"]) == 0
    assert (len(prompts), faults.seen.count("AssumeRole")) == (1, 1)


def test_a_profile_has_one_session_in_all_regions(prompts: Prompts) -> None:
    here = Session(region="eu-west-1", profile="mfa")
    elsewhere = here.in_region("us-west-2")
    assert here._boto is elsewhere._boto is boto_session("mfa", None)
    regions = [session.client("sagemaker").meta.region_name for session in (here, elsewhere)]
    assert regions == ["eu-west-1", "us-west-2"]
    assert (here.account, elsewhere.account) == ("123456789012",) * 2
    assert len(prompts) == 1


def test_a_code_that_was_mistyped_is_asked_for_again(prompts: Prompts, faults: Faults) -> None:
    prompts.codes = ["12345", "abcdef", " 123456 "]
    assert Session(region="eu-west-1", profile="mfa").account
    assert len(prompts) == 3


def test_who_is_asked_for_a_code_is_not_waiting_for_aws(prompts: Prompts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "NOTICE_SECONDS", 0.02)
    late = []

    def think(prompt: str) -> str:
        time.sleep(0.1)
        late.append(waiting.WATCH.is_late)
        return "123456"

    monkeypatch.setattr("wrn.aws.account.credentials.getpass.getpass", think)
    assert Session(region="eu-west-1", profile="mfa").account
    assert late == [False]


def test_no_code(prompts: Prompts, faults: Faults, capsys: pytest.CaptureFixture[str]) -> None:
    prompts.codes = [""]
    assert main(["jobs", "--profile", "mfa"]) == 2
    assert capsys.readouterr().err.splitlines() == [
        "wrn jobs: log in: no MFA code of six digits was entered; repeat the command"
    ]
    assert "AssumeRole" not in faults.seen


def test_without_a_terminal(
    prompts: Prompts, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(credentials, "_has_terminal", lambda: False)
    assert main([*DEPLOY]) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("wrn deploy: log in: the profile needs an MFA code, and there is no terminal")
    assert last.endswith("aws sts get-caller-identity --profile mfa")
    assert prompts == []


@pytest.mark.parametrize(
    ("message", "fix"),
    [
        ("MultiFactorAuthentication failed with invalid MFA one time pass code. ", "a code is valid once"),
        (
            "MultiFactorAuthentication failed, unable to validate MFA code.  Please verify your MFA serial number is "
            "valid and associated with this user.",
            "set mfa_serial in the profile to the ARN of your device",
        ),
        ("User: x is not authorized to perform: sts:AssumeRole on resource: y", "if it requires an MFA code, set"),
        (
            "MultiFactorAuthentication failed, must provide both MFA serial number and one time pass code.",
            "set mfa_serial in the profile",
        ),
    ],
)
def test_a_code_that_aws_refuses(
    message: str, fix: str, prompts: Prompts, faults: Faults, capsys: pytest.CaptureFixture[str]
) -> None:
    faults.refuse("AssumeRole", "AccessDenied", message, status=403)
    assert main(["jobs", "--profile", "mfa"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"wrn jobs: AssumeRole: {message.split()[0]} ")
    assert fix in line
    assert ("administrator" in line) == ("User: " in message)


def expire(session: Session) -> None:
    used = session._boto.get_credentials()
    used._expiry_time = used._time_fetcher()


def test_a_login_that_expires(prompts: Prompts, faults: Faults, tmp_path: Path) -> None:
    """Nobody may be there: a code is not asked for again, but a login of another command is found."""
    session = Session(region="eu-west-1", profile="mfa")
    assert session.account
    expire(session)
    assert list(session.pages("sagemaker", "ListTrainingJobs", "TrainingJobSummaries")) == []
    assert key_of(session) == key_of(session.in_region("us-west-2"))
    expire(session)
    (file,) = kept(tmp_path)
    file.unlink()
    with pytest.raises(NoCredentials, match=r"the login with an MFA code has expired; repeat the command"):
        session.call("sts", "GetCallerIdentity")
    assert len(prompts) == 1


def test_credentials_that_aws_refuses_leave_the_cache(prompts: Prompts, faults: Faults, tmp_path: Path) -> None:
    assert Session(region="eu-west-1", profile="mfa").account
    other = tmp_path / ".aws/cli/cache/other.json"
    other.write_text(kept(tmp_path)[0].read_text().replace("AccessKeyId", "accessToken"))
    forget_sessions()
    faults.refuse("GetCallerIdentity", "InvalidClientTokenId", status=403)
    with pytest.raises(CredentialsRefused):
        _ = Session(region="eu-west-1", profile="mfa").account
    assert kept(tmp_path) == [other]
    forget_sessions()
    assert Session(region="eu-west-1", profile="mfa").account
    assert len(prompts) == 2


@pytest.mark.parametrize("home", ["file", None])
def test_a_user_without_a_folder_to_keep_it_in(
    home: str | None, prompts: Prompts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if home:
        (tmp_path / home).write_text("")
        monkeypatch.setenv("HOME", str(tmp_path / home))
    else:
        monkeypatch.setattr(
            "wrn.aws.account.credentials.Path.home", lambda: (_ for _ in ()).throw(RuntimeError("no home"))
        )
    assert Session(region="eu-west-1", profile="mfa").account
    assert not list(tmp_path.rglob("cache"))
