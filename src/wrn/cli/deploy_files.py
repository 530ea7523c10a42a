"""`wrn deploy --write-json`: a deployment as files and as commands of the aws command, for whoever sends it by hand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wrn.aws.account.names import OWNER_TAG, USER_TAG
from wrn.aws.account.policies import role_policy, trust_policy
from wrn.aws.jobs.calls import full_access_arn
from wrn.aws.jobs.options import DeployOptions, bucket_name, policy_name
from wrn.aws.jobs.request import code_prefix, wheels_prefix
from wrn.aws.s3.code_archive import Bundle
from wrn.aws.s3.dataset_files import Parcel
from wrn.errors import AwsError
from wrn.filesystem import exists
from wrn.strict_json import to_json
from wrn.text import shell_command

TRUST, RIGHTS = "trust-policy.json", "role-policy.json"

MOST_SINGLE = 8
"""Files of data that are uploaded one by one: as many as CIFAR has."""

OURS = ('"SageMakerOfThisAccount"', '"ReadCodeAndData"')
"""In a policy that this program wrote."""


@dataclass(frozen=True)
class Files:
    """What --write-json writes. `job`: the body of CreateTrainingJob; the others lie beside it."""

    job: Path
    archive: Path
    trust: Path
    rights: Path


def write_files(target: Path, request: Mapping[str, Any], code: Bundle, options: DeployOptions) -> Files:
    """Raises AwsError if they cannot be written, or would replace somebody else's policies."""
    files = Files(target, *(target.with_name(name) for name in (code.name, TRUST, RIGHTS)))
    if target.name in (TRUST, RIGHTS):
        raise AwsError(f"write_json: {target.name} is written beside the job; give another file, such as job.json")
    policies = {files.trust: trust_policy(options.account), files.rights: role_policy(options)}
    texts = {path: to_json(document, indent=2) + "\n" for path, document in {target: request, **policies}.items()}
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        for path in policies:
            if exists(path) and not any(mark in path.read_text(encoding="utf-8", errors="replace") for mark in OURS):
                raise AwsError(f"write_json: {path} is not from wrn and would be replaced; give another folder")
        for path, text in texts.items():
            path.write_text(text, encoding="utf-8")
        files.archive.write_bytes(code.content)
    except OSError as error:
        raise AwsError(f"write_json: {target} cannot be written ({error.strerror}); give another file") from None
    return files


def next_steps(
    files: Files, options: DeployOptions, data: Parcel | None, data_to: str, *, profile: str | None
) -> list[str]:
    """The commands that deploy these files, in order, as lines for people. data_to: where the job looks for its data;
    empty if it takes none or if they are there."""
    steps: list[list[str]] = []
    tag = f"Key={OWNER_TAG[0]},Value={OWNER_TAG[1]}"
    if not options.role_arn:
        role = ["--role-name", options.role_name]
        trust, rights = f"file://{files.trust}", f"file://{files.rights}"
        steps += [
            ["iam", "create-role", *role, "--assume-role-policy-document", trust, "--tags", tag],
            ["iam", "put-role-policy", *role, "--policy-name", policy_name(options), "--policy-document", rights],
        ]
        if options.full_access:
            steps.append(["iam", "attach-role-policy", *role, "--policy-arn", full_access_arn(options)])
    if not options.bucket:
        bucket = bucket_name(options)
        steps += [
            ["s3", "mb", f"s3://{bucket}", "--region", options.region],
            ["s3api", "put-bucket-tagging", "--bucket", bucket, "--tagging", f"TagSet=[{{{tag}}}]"],
        ]
    steps.append(["s3", "cp", str(files.archive), code_prefix(options)])
    if data:
        steps += uploads_of(data, data_to)
    command = ["aws", *(["--profile", profile] if profile else [])]
    lines = [shell_command(*command, *step) for step in steps]
    if data_to and not data:
        lines.append(f"upload the data set to {data_to}")
    if options.wheels_name:
        lines.append(f"upload the wheels of requirements.txt (pip download) to {wheels_prefix(options)}")
    job = ["sagemaker", "create-training-job", "--region", options.region, "--cli-input-json", f"file://{files.job}"]
    lines.append(shell_command(*command, *job))
    return [
        *(f"{'then' if number else 'next'}: {line}" for number, line in enumerate(lines)),
        f"add a tag {USER_TAG} to the request to say whose job it is; without it `wrn teardown` needs --everyones",
    ]


def uploads_of(data: Parcel, to: str) -> list[list[str]]:
    """The commands that upload the data, and nothing that lies beside them."""
    if len(data.files) <= MOST_SINGLE:
        return [["s3", "cp", str(path), f"{to}{name}"] for name, path in data.files]
    name, path = data.files[0]
    folder = f"{path.parents[name.count('/')]}/"  # of an image folder: everything in it has its name there
    parts = sorted({name.partition("/")[0] for name, _ in data.files})
    return [["s3", "cp", "--recursive", folder, to, "--exclude", "*", *(f"--include={part}/*" for part in parts)]]
