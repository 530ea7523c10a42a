"""Credentials and certificates: keys that are rotated, a credential_process that fails, a proxy that inspects TLS."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import InvalidConfigError, SSLError

from mocked_aws import SECRET, refusal
from wrn.aws.account.errors import CredentialsRefused, NoAnswer, NoCredentials, explain
from wrn.aws.account.session import Session
from wrn.aws.catalog.prices import live_prices
from wrn.cli import main
from wrn.errors import AwsError

if TYPE_CHECKING:
    from mocked_aws import Faults

LISTED = ("sagemaker", "ListTrainingJobs", "TrainingJobSummaries")


@pytest.fixture
def files(faults: Faults, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with AWS's files, which hold the only credentials."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    write_keys(tmp_path, "AKIAOLDOLDOLDOLD")
    return tmp_path


def write_keys(folder: Path, key: str) -> None:
    (folder / "credentials").write_text(f"[default]\naws_access_key_id = {key}\naws_secret_access_key = {SECRET}\n")


def key_of(session: Session, service: str = "sts") -> str:
    """The key that signs its requests."""
    return str(session.client(service)._request_signer._credentials.access_key)


def revoke(faults: Faults, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on AWS refuses every request that this key signed."""
    answer = faults.answer

    def refusing(request: Any, event_name: str) -> Any:
        if key.encode() in bytes(request.headers["Authorization"]):
            faults.seen.append(event_name.rpartition(".")[2])
            return refusal(request, 403, "InvalidClientTokenId", "The security token is invalid.")
        return answer(request, event_name)

    monkeypatch.setattr(faults, "answer", refusing)


def test_rotated_keys_are_read_once_more(faults: Faults, files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session = Session(region="us-east-1")
    assert session.account
    write_keys(files, "AKIANEWNEWNEWNEW")
    assert key_of(session) == "AKIAOLDOLDOLDOLD", "nothing was refused yet"
    revoke(faults, "AKIAOLDOLDOLDOLD", monkeypatch)
    assert session.call("sts", "GetCallerIdentity")["Account"] == session.account
    assert key_of(session) == "AKIANEWNEWNEWNEW"
    write_keys(files, "AKIANEXTNEXTNEXT")
    revoke(faults, "AKIANEWNEWNEWNEW", monkeypatch)
    assert list(session.pages(*LISTED)) == []
    assert key_of(session) == "AKIANEXTNEXTNEXT"


def test_the_same_keys_are_not_tried_twice(faults: Faults, files: Path) -> None:
    session = Session(region="us-east-1")
    faults.refuse("GetCallerIdentity", "ExpiredToken", times=9)
    with pytest.raises(CredentialsRefused, match="log in again"):
        session.call("sts", "GetCallerIdentity")
    faults.refuse("ListTrainingJobs", "ExpiredToken", times=9)
    with pytest.raises(CredentialsRefused, match="log in again"):
        list(session.pages(*LISTED))
    assert faults.seen == ["GetCallerIdentity", "ListTrainingJobs"]


def test_new_keys_are_refused_only_once(faults: Faults, files: Path) -> None:
    session = Session(region="us-east-1")
    session.client("sts")
    write_keys(files, "AKIANEWNEWNEWNEW")
    faults.refuse("ListTrainingJobs", "ExpiredToken", times=9)
    with pytest.raises(CredentialsRefused):
        list(session.pages(*LISTED))
    assert faults.seen == ["ListTrainingJobs"] * 2


def test_keys_of_another_account_are_not_used(faults: Faults, files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was planned for one account must not be done in another."""
    session = Session(region="us-east-1")
    assert session.account == "123456789012"
    write_keys(files, "AKIANEWNEWNEWNEW")
    monkeypatch.setenv("MOTO_ACCOUNT_ID", "999999999999")
    faults.refuse("ListTrainingJobs", "ExpiredToken")
    with pytest.raises(CredentialsRefused):
        list(session.pages(*LISTED))
    assert key_of(session) == "AKIAOLDOLDOLDOLD"
    # Nor where another region's session, which does not know the account, has taken them.
    elsewhere = session.in_region("us-west-2")
    faults.refuse("ListTrainingJobs", "ExpiredToken")
    assert list(elsewhere.pages(*LISTED)) == []
    assert key_of(elsewhere) == "AKIANEWNEWNEWNEW"
    faults.refuse("ListTrainingJobs", "ExpiredToken")
    with pytest.raises(CredentialsRefused):
        list(session.pages(*LISTED))
    assert key_of(session) == "AKIAOLDOLDOLDOLD"


def test_keys_of_the_environment_stay(faults: Faults, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session = Session(region="us-east-1")
    write_keys(tmp_path, "AKIANEWNEWNEWNEW")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    faults.refuse("ListTrainingJobs", "ExpiredToken", times=9)
    with pytest.raises(CredentialsRefused):
        list(session.pages(*LISTED))
    assert faults.seen == ["ListTrainingJobs"]


class AllAtOnce(Session):
    """Four threads find out together that their keys were refused."""

    barrier = threading.Barrier(4)

    def _has_new_keys(self, used: Any) -> bool:
        self.barrier.wait(30)
        return super()._has_new_keys(used)


def test_every_thread_gets_the_new_keys(faults: Faults, files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session = AllAtOnce(region="us-east-1")
    session.client("sts")
    write_keys(files, "AKIANEWNEWNEWNEW")
    revoke(faults, "AKIAOLDOLDOLDOLD", monkeypatch)
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: session.call("sts", "GetCallerIdentity"), range(4)))
    assert [answer["Account"] for answer in answers] == ["123456789012"] * 4
    assert faults.seen == ["GetCallerIdentity"] * 8


PROCESSES = {
    "fails": f"printf 'first\\nSecretAccessKey: {SECRET}\\n' >&2; exit 3",
    "prints no JSON": f"echo 'AccessKeyId: {SECRET}'",
    "prints no object": "echo '[1]'",
    "prints no text": "printf '\\377\\376'",
    "prints too little": "echo '{\"Version\": 1}'",
    "prints no date": json.dumps(
        {"Version": 1, "AccessKeyId": "a", "SecretAccessKey": SECRET, "SessionToken": SECRET, "Expiration": SECRET}
    ).join(("echo '", "'")),
}


@pytest.mark.parametrize("command", [*PROCESSES.values(), "missing", "'unclosed"], ids=[*PROCESSES, "missing", "quote"])
def test_a_credential_process_that_fails_is_one_line_without_its_output(
    command: str, files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (files / "credentials").unlink()
    if command in PROCESSES.values():
        (files / "helper").write_text(f"#!/bin/bash\n{command}\n")
        (files / "helper").chmod(0o755)
        command = str(files / "helper")
    (files / "config").write_text(f"[default]\ncredential_process = {command}\n")
    for words in (["jobs", "--region", "us-east-1"], ["logs", "-f", "wrn-a", "--region", "us-east-1"]):
        assert main(words) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert "credential_process" in line
        assert SECRET not in line
    with pytest.raises(AwsError, match="credential_process"):
        live_prices("us-east-1")


def test_a_credential_process_that_fails_later(files: Path) -> None:
    """Its credentials expire, and it gives no new ones."""
    answer = {"Version": 1, "AccessKeyId": "a", "SecretAccessKey": "b", "SessionToken": "c"}
    answer["Expiration"] = "2020-01-01T00:00:00Z"
    (files / "credentials").unlink()
    (files / "answer").write_text(json.dumps(answer))
    (files / "config").write_text(f"[default]\ncredential_process = cat {files}/answer\n")
    session = Session(region="us-east-1")
    session.client("sts")
    (files / "answer").write_text(f"no longer {SECRET}")
    with pytest.raises(NoCredentials, match="credential_process") as caught:
        session.call("sts", "GetCallerIdentity")
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(("bundle", "words"), [("", "set AWS_CA_BUNDLE to"), ("/x/ca.pem", "AWS_CA_BUNDLE is /x/ca")])
def test_an_inspected_connection_names_the_variable_at_once(
    bundle: str, words: str, faults: Faults, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_CA_BUNDLE", raising=False)
    session = Session(region="us-east-1")
    session.client("sts")
    if bundle:
        monkeypatch.setenv("AWS_CA_BUNDLE", bundle)
    refused = SSLError(endpoint_url="https://sts", error="[SSL: CERTIFICATE_VERIFY_FAILED] self-signed certificate")
    faults.fail("GetCallerIdentity", refused, times=9)
    with pytest.raises(NoAnswer, match=words):
        session.call("sts", "GetCallerIdentity")
    assert session.sent == [("sts", "GetCallerIdentity")], "no repeat would change that"


def test_other_faults_of_a_secure_connection_are_the_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_CA_BUNDLE", raising=False)
    broken = explain(SSLError(endpoint_url="https://sts", error="[SSL] record layer failure"), "GetRole")
    assert "AWS_CA_BUNDLE" not in str(broken)
    assert "check the network" in str(broken)
    empty = explain(InvalidConfigError(error_msg="Invalid CA bundle: the configured value is empty"), "GetRole")
    assert "AWS_CA_BUNDLE is set but empty" in str(empty)
