"""Fetching a model: complete, verified, resumed, and never outside its folder, whatever the archive says."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import EndpointConnectionError

import wrn.aws.jobs.fetch as fetching
from fake_account import ACCOUNT, BUCKET, archive, client, make_bucket, make_job
from wrn.aws.account.errors import Denied
from wrn.aws.account.session import Session
from wrn.aws.jobs.fetch import RECORD, fetch
from wrn.aws.jobs.job import Job, describe, owner_guard
from wrn.aws.s3.unpack import unpack
from wrn.errors import AwsError

MODEL = {"model.safetensors": b"weights" * 1000, "model.json": b"{}", "report/index.html": b"<p>"}
RECORDS = {"history.jsonl": b'{"epoch": 1}\n', "metrics.json": b"{}", "config.yaml": b"epochs: 1\n"}
OUTPUT = "wrn/output/wrn-a/output"


@pytest.fixture
def job(account: None) -> Job:
    """A finished job with a model and records in S3."""
    make_bucket(BUCKET, ours=True)
    make_job("wrn-a")
    put("model.tar.gz", archive(MODEL))
    put("output.tar.gz", archive(RECORDS))
    return describe(Session(), "wrn-a")


def put(name: str, content: bytes) -> None:
    client("s3").put_object(Bucket=BUCKET, Key=f"{OUTPUT}/{name}", Body=content)


def test_a_fetched_job_looks_like_a_run(job: Job, tmp_path: Path) -> None:
    result = fetch(Session(), job, tmp_path / "deep/run")
    assert result.model == tmp_path / "deep/run/model"
    assert (result.model / "model.safetensors").read_bytes() == MODEL["model.safetensors"]
    assert result.files == [
        "config.yaml",
        "history.jsonl",
        "metrics.json",
        "model/model.json",
        "model/model.safetensors",
        "model/report/index.html",
    ]
    assert result.bytes > 0
    assert sorted(path.name for path in (tmp_path / "deep/run").iterdir() if path.name.startswith(".")) == [RECORD]


def test_what_is_there_already_is_not_fetched_again(job: Job, tmp_path: Path) -> None:
    fetch(Session(), job, tmp_path)
    session = Session()
    assert fetch(session, job, tmp_path).bytes == 0
    assert ("s3", "GetObject") not in session.sent
    put("model.tar.gz", archive({"model.safetensors": b"new"}))
    assert fetch(Session(), job, tmp_path).bytes > 0
    assert [path.name for path in (tmp_path / "model").iterdir()] == ["model.safetensors"]


def test_a_broken_download_goes_on_where_it_ended(job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "PART", 100)
    session, real = Session(), Session.call
    parts: list[str] = []

    def breaking(self: Session, service: str, operation: str, request: dict[str, Any] | None = None) -> dict[str, Any]:
        answer = real(self, service, operation, request)
        if operation == "GetObject":
            assert request is not None
            parts.append(request["Range"])
            if len(parts) == 2:
                answer["Body"] = io.BytesIO(answer["Body"].read()[:7])
        return answer

    monkeypatch.setattr(Session, "call", breaking)
    with pytest.raises(AwsError, match="the connection broke; repeat the command to resume"):
        fetch(session, job, tmp_path)
    assert not (tmp_path / "model").exists()
    fetch(session, job, tmp_path)
    assert parts[:3] == ["bytes=0-99", "bytes=100-199", "bytes=100-199"]
    assert (tmp_path / "model/model.safetensors").read_bytes() == MODEL["model.safetensors"]


def test_bytes_that_are_not_the_objects_are_not_believed(job: Job, tmp_path: Path) -> None:
    head = client("s3").head_object(Bucket=BUCKET, Key=f"{OUTPUT}/model.tar.gz")
    path = tmp_path / "x"
    path.write_bytes(b"?" * (head["ContentLength"] - 1))
    with pytest.raises(AwsError, match="is damaged and was removed"):
        fetching.download(Session(), BUCKET, f"{OUTPUT}/model.tar.gz", path, head)
    assert not path.exists()


def test_other_peoples_folders_are_left_alone(job: Job, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    with pytest.raises(AwsError, match="exists, but was not fetched; give another --output-dir, or --force"):
        fetch(Session(), job, tmp_path)
    fetch(Session(), job, tmp_path, force=True)
    assert json.loads((tmp_path / RECORD).read_text())["job"] == "wrn-a"
    other = Job({**job.answer, "TrainingJobName": "wrn-b"})
    with pytest.raises(AwsError, match="holds the results of wrn-a"):
        fetch(Session(), other, tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(AwsError, match="is not a folder"):
        fetch(Session(), job, tmp_path / "file")


def test_a_job_without_a_model(job: Job, tmp_path: Path) -> None:
    client("s3").delete_object(Bucket=BUCKET, Key=f"{OUTPUT}/output.tar.gz")
    assert "does not exist: the model comes without a history" in fetch(Session(), job, tmp_path / "a").notes[0]
    client("s3").delete_object(Bucket=BUCKET, Key=f"{OUTPUT}/model.tar.gz")
    with pytest.raises(AwsError, match=r"left no model .*`wrn resume wrn-a`"):
        fetch(Session(), job, tmp_path / "b")
    failed = Job({**job.answer, "TrainingJobStatus": "Failed", "FailureReason": "AlgorithmError: no GPU"})
    with pytest.raises(AwsError, match="wrn-a: failed: AlgorithmError: no GPU"):
        fetch(Session(), failed, tmp_path / "c")
    with pytest.raises(AwsError, match="is not done yet"):
        fetch(Session(), Job({**job.answer, "TrainingJobStatus": "InProgress"}), tmp_path / "d")


@pytest.mark.parametrize("reason", ["no model", "denied", "not ours", "damaged", "empty"])
def test_a_job_without_a_usable_model_does_not_take_the_folder(reason: str, job: Job, tmp_path: Path) -> None:
    failed = Job({**job.answer, "TrainingJobName": "wrn-b", "TrainingJobStatus": "Failed", "FailureReason": "no GPU"})
    session, bad = Session(), {"not ours": archive({"x": b"x"}), "damaged": b"junk", "empty": b""}
    if reason == "no model":
        client("s3").delete_object(Bucket=BUCKET, Key=f"{OUTPUT}/model.tar.gz")
    elif reason in bad:
        put("model.tar.gz", bad[reason])
    else:  # as with a KMS key that the caller may not use
        session.client("s3").meta.events.register("before-call.s3.GetObject", refuse)
    kept = tmp_path / "kept"
    kept.mkdir()
    for folder in (tmp_path / "deep/run", kept):
        with pytest.raises(AwsError):
            fetch(session, failed, folder)
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
    assert list(kept.iterdir()) == []
    put("model.tar.gz", archive(MODEL))
    (kept / RECORD).write_text('{"job": "wrn-b"}')  # as earlier versions left it
    fetch(Session(), job, kept)
    assert json.loads((kept / RECORD).read_text())["job"] == "wrn-a"


def refuse(**_: Any) -> None:
    raise EndpointConnectionError(endpoint_url="x")


def test_a_job_that_failed_leaves_the_results_of_another(job: Job, tmp_path: Path) -> None:
    fetch(Session(), job, tmp_path)
    client("s3").delete_object(Bucket=BUCKET, Key=f"{OUTPUT}/model.tar.gz")
    failed = Job({**job.answer, "TrainingJobName": "wrn-b", "TrainingJobStatus": "Failed"})
    with pytest.raises(AwsError):
        fetch(Session(), failed, tmp_path, force=True)
    assert json.loads((tmp_path / RECORD).read_text())["job"] == "wrn-a"
    assert (tmp_path / "model/model.safetensors").is_file()


def test_nothing_comes_from_a_bucket_that_is_anothers_now(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session, real = Session(), Session.call
    asked: list[tuple[str, Any]] = []

    def noted(self: Session, service: str, operation: str, request: dict[str, Any] | None = None) -> dict[str, Any]:
        assert request is not None
        asked.append((operation, request.get("ExpectedBucketOwner")))
        return real(self, service, operation, request)

    monkeypatch.setattr(Session, "call", noted)
    fetch(session, job, tmp_path / "a")
    assert dict(asked) == {"HeadObject": ACCOUNT, "GetObject": ACCOUNT}

    def taken(*_: Any) -> None:
        raise Denied("HeadObject: Forbidden (403)")

    monkeypatch.setattr(Session, "call", taken)
    with pytest.raises(Denied, match=r"model.tar.gz: the bucket belongs to another account now, or HeadObject"):
        fetch(session, job, tmp_path / "b")
    monkeypatch.undo()
    assert owner_guard(job, "given") == {}, "it may be another account's"


def test_records_cannot_take_the_place_of_the_model(job: Job, tmp_path: Path) -> None:
    put("output.tar.gz", archive({"model/model.safetensors": b"evil", RECORD: b"{}", "history.jsonl": b"h"}))
    result = fetch(Session(), job, tmp_path)
    assert (tmp_path / "model/model.safetensors").read_bytes() == MODEL["model.safetensors"]
    assert len(result.notes) == 2
    assert json.loads((tmp_path / RECORD).read_text())["job"] == "wrn-a"


def test_records_do_not_follow_a_link_out_of_the_folder(job: Job, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    target = tmp_path / "run"
    target.mkdir()
    (target / "logs").symlink_to(outside)
    put("output.tar.gz", archive({"logs/x": b"evil"}))
    with pytest.raises(AwsError, match="leads outside"):
        fetch(Session(), job, target)
    assert list(outside.iterdir()) == []


def test_a_model_that_is_none_of_ours(job: Job, tmp_path: Path) -> None:
    put("model.tar.gz", archive({"pytorch_model.bin": b"x"}))
    with pytest.raises(AwsError, match=r"holds no model.safetensors but pytorch_model.bin"):
        fetch(Session(), job, tmp_path)
    assert not (tmp_path / "model").exists()


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = kind, link
    return entry


@pytest.mark.parametrize(
    "members",
    [
        [member("../evil")],
        [member("a/../../evil")],
        [member("/tmp/evil")],
        [member("C:evil")],
        [member("a\\..\\evil")],
        [member("a\nb")],
        [member("link", tarfile.SYMTYPE, "/etc"), member("link/passwd")],
        [member("link", tarfile.SYMTYPE, "..")],
        [member("hard", tarfile.LNKTYPE, "/etc/passwd")],
        [member("device", tarfile.CHRTYPE)],
        [member("pipe", tarfile.FIFOTYPE)],
        [member("twice"), member("twice")],
        [member("file"), member("file/inside")],
    ],
    ids=lambda members: ",".join(repr(entry.name) for entry in members),
)
def test_malicious_members_are_refused(members: list[tarfile.TarInfo], tmp_path: Path) -> None:
    packed = tmp_path / "x.tar.gz"
    packed.write_bytes(archive(members))
    inside = tmp_path / "a/b"
    inside.mkdir(parents=True)
    with pytest.raises(AwsError, match=r"^x\.tar\.gz: "):
        unpack(packed, inside)
    # No link to follow, nothing outside the folder.
    assert not any(path.is_symlink() for path in tmp_path.rglob("*"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "x.tar.gz"]
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b"]


def test_an_archive_that_would_fill_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wrn.aws.s3.unpack.MOST_BYTES", 1000)
    packed = tmp_path / "x.tar.gz"
    packed.write_bytes(archive({"zeros": b"\0" * 1001}))
    folder = tmp_path / "a"
    folder.mkdir()
    with pytest.raises(AwsError, match="unpacks to more than"):
        unpack(packed, folder)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("damage", ["cut", "flipped", "checksum", "no archive"])
def test_damaged_archives(damage: str, tmp_path: Path) -> None:
    content = bytearray(archive({"weights": bytes(range(256)) * 500}))
    if damage == "cut":
        del content[-100:]
    elif damage == "flipped":
        content[len(content) // 2] ^= 255
    elif damage == "checksum":
        content[-6] ^= 255
    else:
        content[:] = b"<html>not found</html>"
    packed = tmp_path / "x.tar.gz"
    packed.write_bytes(content)
    (tmp_path / "a").mkdir()
    with pytest.raises(AwsError, match="is damaged"):
        unpack(packed, tmp_path / "a")


def test_folders_with_a_dot_and_modes(tmp_path: Path) -> None:
    """As `tar -C folder .` creates them."""
    inside = tarfile.TarInfo("./weights")
    inside.size, inside.mode = 3, 0o6777
    folder = member("./", tarfile.DIRTYPE)
    packed = tmp_path / "x.tar.gz"
    packed.write_bytes(archive([folder, inside]))
    (tmp_path / "a").mkdir()
    assert unpack(packed, tmp_path / "a") == ["weights"]
    assert (tmp_path / "a/weights").stat().st_mode & 0o7111 == 0
