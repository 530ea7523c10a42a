"""The request that starts a training job, as a pure function of the configuration and the options.

`--dry-run` prints it and `deploy` sends it: there is only one way to start a job.
"""

from __future__ import annotations

import re
from typing import Any

from wrn.aws.account.names import PREFIX
from wrn.aws.catalog.prices import PRICE_VARIABLE, price_text
from wrn.aws.jobs.metrics import metric_definitions
from wrn.aws.jobs.options import (
    LOCAL_STORAGE,
    DeployOptions,
    all_tags,
    bucket_name,
    family,
    image_uri,
    limits,
    role_arn,
    training_minutes,
)
from wrn.config.layers import resolve
from wrn.config.schema import Config
from wrn.errors import AwsError

FOLDERS = ("code", "data", "checkpoints", "output")
"""Under PREFIX: everything that a deployment and its job write."""

OWN_DATA = re.compile(rf"{PREFIX}/data/[^/]+/[0-9a-f]{{32}}(?:/|\.complete$)")
"""Start of the keys of data that a deployment sent: the data set's name and a hash of its content."""

CODE_CHANNEL, DATA_CHANNEL, WHEELS_CHANNEL = "code", "training", "wheels"

COMMAND = (
    "set -e; trap 'exit 143' TERM; mkdir -p /opt/ml/code; cd /opt/ml/code; "
    f"tar -xzf /opt/ml/input/data/{CODE_CHANNEL}/*.tar.gz --no-same-owner; "
    "exec /bin/bash src/wrn/aws/container.sh"
)
"""At most 256 characters for CreateTrainingJob. Each `exec` keeps the program process 1, which gets SIGTERM if it
handles it. SageMaker's own launcher does not pass it on (sagemaker-training-toolkit, issue 125)."""

LOCAL_PATHS = ("output_dir", "model_dir", "checkpoint_dir", "albumentations_file")
NOT_SENT = (*LOCAL_PATHS, "data_dir")

LONGEST_VALUE = 256
"""Characters of a hyperparameter's value, by the API documentation; its service model says 2500."""


def training_job(config: Config, base: Config, recipe: str, options: DeployOptions) -> dict[str, Any]:
    """The body of CreateTrainingJob.

    base: see `job_base`. recipe: its name in the container ("standard": none).
    Raises AwsError listing everything that does not suit a job.
    """
    config = within_cost(config, options)
    where = f"s3://{bucket_name(options)}/{PREFIX}"
    times = limits(options)
    if options.spot and options.keep_warm:
        raise AwsError("keep_warm: spot instances cannot be kept; leave out --keep-warm or --spot")
    request: dict[str, Any] = {
        "TrainingJobName": options.name,
        "RoleArn": role_arn(options),
        "AlgorithmSpecification": {
            "TrainingImage": image_uri(options),
            "TrainingInputMode": "File",
            "ContainerEntrypoint": ["/bin/bash", "-c"],
            "ContainerArguments": [COMMAND],
            "MetricDefinitions": metric_definitions(),
            "EnableSageMakerMetricsTimeSeries": True,
        },
        "HyperParameters": hyperparameters(config, base, recipe),
        "InputDataConfig": [_channel(CODE_CHANNEL, code_prefix(options))],
        "OutputDataConfig": {"S3OutputPath": f"{where}/output", "CompressionType": "GZIP"},
        "CheckpointConfig": {"S3Uri": f"{where}/checkpoints/{options.name}", "LocalPath": "/opt/ml/checkpoints"},
        "ResourceConfig": {
            "InstanceType": options.instance_type,
            "InstanceCount": options.instance_count,
            "VolumeSizeInGB": options.volume_gb,
        },
        "StoppingCondition": {"MaxRuntimeInSeconds": times.runtime},
        "EnableManagedSpotTraining": options.spot,
        "EnableNetworkIsolation": options.network_isolation,
        # Only for errors of the platform itself; MaxRuntimeInSeconds covers all attempts together.
        "RetryStrategy": {"MaximumRetryAttempts": 2},
        "Tags": all_tags(options),
    }
    if options.own_price:  # later its cost is computed from this price
        request["Environment"] = {PRICE_VARIABLE: price_text(options.own_price)}
    if config.dataset != "synthetic":
        request["InputDataConfig"].append(_channel(DATA_CHANNEL, data_uri(config, options)))
    if options.wheels_name:
        request["InputDataConfig"].append(_channel(WHEELS_CHANNEL, wheels_prefix(options)))
    if options.spot:
        request["StoppingCondition"]["MaxWaitTimeInSeconds"] = times.wait
    if options.keep_warm:
        request["ResourceConfig"]["KeepAlivePeriodInSeconds"] = options.keep_warm
    if options.kms_key:
        request["OutputDataConfig"]["KmsKeyId"] = options.kms_key
        if family(options.instance_type) not in LOCAL_STORAGE:
            request["ResourceConfig"]["VolumeKmsKeyId"] = options.kms_key
    if options.subnets or options.security_groups:
        request["VpcConfig"] = {
            "Subnets": list(options.subnets),
            "SecurityGroupIds": list(options.security_groups),
        }
    return request


def code_prefix(options: DeployOptions) -> str:
    """The folder that holds the code archive and nothing else: a channel includes every key with its prefix."""
    return f"s3://{bucket_name(options)}/{PREFIX}/code/{options.code_name.removesuffix('.tar.gz')}/"


def wheels_prefix(options: DeployOptions) -> str:
    """The folder with the packages of a job that may have no network."""
    return f"s3://{bucket_name(options)}/{PREFIX}/code/{options.wheels_name}/"


def data_uri(config: Config, options: DeployOptions) -> str:
    """The folder that holds one data set and nothing else."""
    key = f"{options.data_key}/" if options.data_key else ""
    return options.data_uri or f"s3://{bucket_name(options)}/{PREFIX}/data/{data_name(config)}/{key}"


def data_name(config: Config) -> str:
    """The folder of the data set in the bucket."""
    return "cifar100" if config.dataset == "auto" else config.dataset


def within_cost(config: Config, options: DeployOptions) -> Config:
    """With --max-cost: the recipe over fewer epochs if the money does not pay for all of them.

    Cut off at its limit, a run would end at a high learning rate and be of little use. The job measures its own speed.
    """
    if not options.max_cost or config.budget_minutes:
        return config
    return config.model_copy(update={"budget_minutes": training_minutes(options), "budget_epochs": config.epochs})


def job_base(config: Config, recipe: str) -> Config:
    """What the container resolves from a recipe that it has and the keys that were given."""
    sent = {key: getattr(config, key) for key in config.given if key not in NOT_SENT}
    return resolve(recipe, sent).config


def hyperparameters(config: Config, base: Config, recipe: str) -> dict[str, str]:
    """The recipe, and every key that was given or differs from it, as texts that the flags of `wrn train` take.

    A given key is sent even if the recipe has the same value: in the job, too, it must not adapt like a default.
    `data_dir` is the local path of the data; in the container it is the channel. Raises AwsError for other local paths,
    which mean nothing there.
    """
    problems = [
        f"{key}: {getattr(config, key)} is a path on this machine, and a job has its own; leave it out"
        for key in LOCAL_PATHS
        if getattr(config, key) is not None
    ]
    if config.resume != "auto":
        problems.append(
            f"resume: {config.resume} does not work for a job: it starts without checkpoints, and must resume from its "
            "own when its instance is replaced; leave it out"
        )
    values = {} if recipe == "standard" else {"recipe": recipe}
    for key in Config.model_fields:
        value = getattr(config, key)
        if key not in NOT_SENT and (key in config.given or value != getattr(base, key)):
            values[key] = _text(value)
    problems += [
        f"{key}: is {len(value)} characters long, but a hyperparameter may have at most {LONGEST_VALUE}; "
        "put it into a recipe in configs/"
        for key, value in values.items()
        if len(value) > LONGEST_VALUE
    ]
    if problems:
        raise AwsError("\n".join(problems))
    return values


def _text(value: object) -> str:
    if value is None:
        return "none"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _channel(name: str, uri: str) -> dict[str, Any]:
    source = {"S3DataType": "S3Prefix", "S3Uri": uri, "S3DataDistributionType": "FullyReplicated"}
    return {"ChannelName": name, "DataSource": {"S3DataSource": source}, "InputMode": "File"}
