"""What SageMaker's reasons mean: texts as people report them, and as this project's own programs write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wrn.aws.account.errors import NoCapacity
from wrn.aws.jobs.failures import _RULES, advise, failed
from wrn.aws.jobs.job import Job

S3 = "s3://b/data/cifar-100-python.tar.gz"
REASONS = {
    "capacity resume": [
        "CapacityError: Unable to provision requested ML compute capacity. Please retry using a different ML instance "
        "type.",
        "CapacityError: Insufficient capacity error from EC2 while launching instances, retry!",
    ],
    "quota resume": [
        "ResourceLimitExceeded: The account-level service limit 'ml.g5.xlarge for training job usage' is 0 Instances, "
        "with current utilization of 0 Instances and a request delta of 1 Instances. Please contact AWS support to "
        "request an increase for this limit.",
    ],
    "role deploy": [
        "ClientError: SageMaker was unable to assume the role 'arn:aws:iam::111122223333:role/SageMakerRole'",
        "ClientError: TrainingHostAgent Initialization failed:InvalidInputException: SageMaker is unable to perform: "
        "sts:AssumeRole on the role. Check if you have a trust relationship for 'sagemaker.amazonaws.com' to assume "
        "the role.",
        "Could not assume role arn:aws:iam::111122223333:role/r. Please ensure that the role exists and allows "
        "principal 'sagemaker.amazonaws.com' to assume the role.",
    ],
    "image deploy": [
        "ClientError: Cannot pull algorithm container. Either the image does not exist or its permissions are "
        "incorrect.",
        "ClientError: API error (404): manifest for 111122223333.dkr.ecr.us-west-2.amazonaws.com/wrn:py312 not found: "
        "manifest unknown: Requested image not found",
        "CannotPullContainerError: pull access denied",
    ],
    "container deploy": [
        "ClientError: CannotStartContainerError. Please ensure the model container for variant algo-1 starts correctly "
        "when invoked with 'docker run <image> train'",
        "AlgorithmError: , exit code: 127",
        'AlgorithmError: exec: "/bin/bash": exec format error, exit code: 126',
    ],
    "region deploy": [
        f"ClientError: Data download failed:Unable to download object {S3} (BucketRegionError: incorrect region, the "
        "bucket is not in 'ap-northeast-2' region at endpoint '', bucket is in 'us-east-2' region status code: 301, "
        "request id: MM4M1WQ5XKNJATM8)",
        "ClientError: Data download failed:PermanentRedirect (301): The bucket is in this region: us-east-2. Please "
        "use this region to retry the request",
        "ClientError: Artifact upload failed:Unable to upload file to s3://b/x/model.tar.gz (BucketRegionError: bucket "
        "must be in the same region as the job)",
        "ClientError: Data download failed:PermanentRedirect (301): The bucket you are attempting to access must be "
        "addressed using the specified endpoint. Please send all future requests to this endpoint.",
    ],
    "network resume": [
        "ClientError: Data download failed:Please ensure that the subnet's route table has a route to an S3 VPC "
        "endpoint or a NAT device, and both the security groups and the subnet's network ACL allow outbound traffic "
        "to S3.",
        f"ClientError: Data download failed: Failed to download data. ListObjectsV2 failed for {S3} : Unable to "
        "execute request to S3",
    ],
    "disk deploy": [
        "ClientError: Data download failed:Insufficient disk space",
        "ClientError: Artifact upload failed: Insufficient disk space",
        "AlgorithmError: CheckpointError: /opt/ml/checkpoints: No space left on device; free some, exit code: 2",
    ],
    "key resume": [
        f"ClientError: Data download failed:Unable to download object {S3} (AccessDenied: User: arn:aws:sts::1:"
        "assumed-role/r/SageMaker is not authorized to perform: kms:Decrypt on resource: arn:aws:kms:us-east-1:1:key/k "
        "because no identity-based policy allows the kms:Decrypt action)",
    ],
    "output resume": [
        "ClientError: Artifact upload failed:Error 7: AccessDenied (403): Access Denied",
        "ClientError: Artifact upload failed:Unable to upload file to s3://b/x/model.tar.gz (AccessDenied: Access "
        "Denied)",
    ],
    "data resume": [
        f"ClientError: Data download failed:Unable to download object {S3} (AccessDenied: Access Denied)",
        "ClientError: Data download failed:failed to download data. 403 Forbidden (403): Forbidden",
        "AlgorithmError: framework error: botocore.exceptions.ClientError: An error occurred (403) when calling the "
        "HeadObject operation: Forbidden, exit code: 1",
    ],
    "missing deploy": [
        'ClientError: Data download failed:No S3 objects found under S3 URL "s3://b/data/" given in input data source. '
        "Please ensure that the bucket exists in the selected region (us-east-1), that objects exist under that S3 "
        'prefix, and that the role "arn:aws:iam::1:role/r" has "s3:ListBucket" permissions on bucket "b".',
        "ClientError: Data download failed:NoSuchKey (404): The specified key does not exist.",
    ],
    "gpu memory resume": [
        "AlgorithmError: OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity "
        "of 21.99 GiB of which 1.20 GiB is free., exit code: 1",
        'AlgorithmError: ExecuteUserScriptError: ExitCode 1 ErrorMessage "RuntimeError: CUDA out of memory. Tried to '
        'allocate 72.00 MiB (GPU 0; 14.76 GiB total capacity)" Command "/opt/conda/bin/python train.py", exit code: 1',
        "AlgorithmError: TrainingError: out of memory with 32 images per forward pass; give a smaller --micro-batch, a "
        "smaller network, or --device cpu, exit code: 2",
        "AlgorithmError: RuntimeError: CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate, exit code: 1",
    ],
    "shared memory deploy": [
        "AlgorithmError: RuntimeError: DataLoader worker (pid 62) is killed by signal: Bus error. It is possible that "
        "dataloader's workers are out of shared memory. Please try to raise your shared memory limit., exit code: 1",
    ],
    "memory resume": [
        "AlgorithmError: , exit code: 137",
        "AlgorithmError: Exit Code: 137",
        "ClientError: Please use an instance type with more memory, or reduce the size of training data processed on "
        "an instance.",
        "ClientError: Artifact upload failed:ClientError: Out of Memory. Please use a larger instance",
        'AlgorithmError: ExecuteUserScriptError: ExitCode -9 ErrorMessage "", exit code: 247',
    ],
    "gpu fault resume": [
        "AlgorithmError: RuntimeError: CUDA error: uncorrectable ECC error encountered, exit code: 1",
    ],
    "driver deploy": [
        "AlgorithmError: RuntimeError: CUDA error: no kernel image is available for execution on the device, exit "
        "code: 1",
        "AlgorithmError: RuntimeError: The NVIDIA driver on your system is too old; CUDA driver version is "
        "insufficient for CUDA runtime version, exit code: 1",
    ],
    "process resume": [
        "AlgorithmError: LostProcess: rank 3 on algo-2 did not answer for 60 s, exit code: 3",
        "AlgorithmError: DistBackendError: NCCL error in: ProcessGroupNCCL.cpp:2251, remote process exited",
    ],
    "not finite deploy": [
        "AlgorithmError: TrainingError: the loss or its gradient was not finite in 100 steps running, exit code: 2",
    ],
    "packages deploy": ["AlgorithmError: pip could not install pydantic>=2; the log says why, exit code: 1"],
    "message deploy": ["AlgorithmError: DataError: there is no cifar100 in /opt/ml/input/data/training, exit code: 2"],
    "aws resume": [
        "InternalServerError: We encountered an internal error.  Please try again.",
        "InternalServerError: We encountered an internal error. Please try again.",
    ],
    "interrupted resume": ["AlgorithmError: , exit code: 143"],
    "crash resume": ["AlgorithmError: Exit Code: 139", "AlgorithmError: , exit code: 134"],
    "program log": [
        "AlgorithmError: , exit code: 1",
        'AlgorithmError: ExecuteUserScriptError: ExitCode 1 ErrorMessage "KeyError: 403", exit code: 1',
    ],
    "unknown log": ["", "Something that SageMaker has never said before"],
}


@pytest.mark.parametrize(
    ("meaning", "reason"), [(meaning, reason) for meaning, reasons in REASONS.items() for reason in reasons]
)
def test_what_a_reason_means(meaning: str, reason: str) -> None:
    advice = advise(reason, instance_type="ml.g5.xlarge", role="arn:aws:iam::1:role/r", region="us-west-2")
    assert f"{advice.kind} {advice.again}" == meaning
    assert advice.cause
    assert advice.fix
    assert "{" not in advice.cause + advice.fix
    folded = advise(reason.replace(". ", ".\n  "), instance_type="ml.g5.xlarge")
    assert folded.kind == advice.kind, "however its lines are broken"


def test_every_rule_has_a_text() -> None:
    assert {rule.kind for rule in _RULES} == {meaning.rsplit(" ", 1)[0] for meaning in REASONS} - {"unknown"}


@pytest.mark.parametrize("reason", REASONS["region deploy"][:2])
def test_the_region_of_the_bucket_is_named(reason: str) -> None:
    assert "(us-east-2)" in advise(reason, region="us-west-2").cause
    assert "a job reads and writes only in its own, us-west-2" in advise(reason, region="us-west-2").cause


@pytest.mark.parametrize(
    ("reason", "old", "new"),
    [
        ("CUDA out of memory", "ml.g4dn.xlarge", "ml.g6.xlarge"),
        ("CUDA out of memory", "ml.g5.12xlarge", "ml.g6e.12xlarge"),
        ("exit code: 137", "ml.g6e.xlarge", "ml.g6e.2xlarge"),
        ("exit code: 137", "ml.g4dn.xlarge", "ml.g4dn.2xlarge"),
    ],
)
def test_an_instance_with_more_memory(reason: str, old: str, new: str) -> None:
    advice = advise(f"AlgorithmError: {reason}", instance_type=old)
    assert (advice.instance_type, advice.again) == (new, "resume")


@pytest.mark.parametrize("old", ["ml.p5e.48xlarge", "ml.m5.xlarge", ""])
def test_without_a_larger_instance_resuming_cannot_help(old: str) -> None:
    assert advise("AlgorithmError: CUDA out of memory", instance_type=old).again == "deploy"


@given(st.text(), st.sampled_from(["", "ml.g5.xlarge", "{x}"]))
def test_any_text_gets_an_advice(reason: str, instance_type: str) -> None:
    advice = advise(reason, instance_type=instance_type, role="{y}")
    assert advice.cause
    assert advice.fix


def test_the_exception_of_a_failed_job() -> None:
    answer = {
        "TrainingJobName": "wrn-a",
        "TrainingJobStatus": "Failed",
        "ResourceConfig": {"InstanceType": "ml.g5.xlarge"},
        "FailureReason": REASONS["capacity resume"][0],
    }
    error = failed(Job(answer))
    assert isinstance(error, NoCapacity)
    assert "AWS has no ml.g5.xlarge available at the moment" in str(error)
    assert type(failed(Job({**answer, "FailureReason": "x"}))) is not NoCapacity
    assert str(failed(Job({**answer, "FailureReason": ""}))).startswith("wrn-a: failed: SageMaker gave no reason")
