"""The request of a training job: its content, and that it matches AWS's service model for any options."""

from __future__ import annotations

import re
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wrn.aws.account.validate import check_request
from wrn.aws.jobs.metrics import FIELDS, metric_definitions
from wrn.aws.jobs.options import LOCAL_STORAGE, DeployOptions, family, job_name, limits, training_minutes
from wrn.aws.jobs.request import COMMAND, data_name, hyperparameters, job_base, training_job
from wrn.config.flags import Parser, add_config_flags, parse_config
from wrn.config.layers import Resolved, recipe_names, resolve
from wrn.distributed.environment import hyperparameter_flags
from wrn.errors import AwsError
from wrn.trackers import console as reporters

pytest.importorskip("botocore", reason="needs the extra aws")

OPTIONS = DeployOptions(name="wrn-test-1", account="111122223333", code_name="wrn-abc.tar.gz")
BASE = resolve(None, {}).config


def job(options: DeployOptions = OPTIONS, recipe: str = "standard", **flags: Any) -> dict[str, Any]:
    return training_job(resolve(recipe, flags).config, resolve(recipe, {}).config, recipe, options)


def parsed(arguments: list[str]) -> Resolved:
    parser = Parser(allow_abbrev=False)
    add_config_flags(parser)
    return parse_config(parser, arguments)


def test_the_plain_request() -> None:
    request = job(lr="0.2", data_dir="/here")
    metrics = request["AlgorithmSpecification"].pop("MetricDefinitions")
    assert len(metrics) == len(FIELDS) + 1

    def channel(name: str, folder: str) -> dict[str, Any]:
        source = {
            "S3DataType": "S3Prefix",
            "S3Uri": f"s3://wrn-111122223333-us-east-1/wrn/{folder}/",
            "S3DataDistributionType": "FullyReplicated",
        }
        return {"ChannelName": name, "DataSource": {"S3DataSource": source}, "InputMode": "File"}

    assert request == {
        "TrainingJobName": "wrn-test-1",
        "RoleArn": "arn:aws:iam::111122223333:role/wrn-training",
        "AlgorithmSpecification": {
            "TrainingImage": "763104351884.dkr.ecr.us-east-1.amazonaws.com/pytorch:2.12-cu130-amzn2023-sagemaker",
            "TrainingInputMode": "File",
            "ContainerEntrypoint": ["/bin/bash", "-c"],
            "ContainerArguments": [COMMAND],
            "EnableSageMakerMetricsTimeSeries": True,
        },
        "HyperParameters": {"lr": "0.2"},
        "InputDataConfig": [channel("code", "code/wrn-abc"), channel("training", "data/cifar100")],
        "OutputDataConfig": {
            "S3OutputPath": "s3://wrn-111122223333-us-east-1/wrn/output",
            "CompressionType": "GZIP",
        },
        "CheckpointConfig": {
            "S3Uri": "s3://wrn-111122223333-us-east-1/wrn/checkpoints/wrn-test-1",
            "LocalPath": "/opt/ml/checkpoints",
        },
        "ResourceConfig": {"InstanceType": "ml.g6e.xlarge", "InstanceCount": 1, "VolumeSizeInGB": 30},
        "StoppingCondition": {"MaxRuntimeInSeconds": 86400},
        "EnableManagedSpotTraining": False,
        "EnableNetworkIsolation": False,
        "RetryStrategy": {"MaximumRetryAttempts": 2},
        "Tags": [{"Key": "created-by", "Value": "wrn"}, {"Key": "wrn-job", "Value": "wrn-test-1"}],
    }


def test_all_options() -> None:
    everything = replace(
        OPTIONS, spot=True, max_runtime=3600, subnets=("subnet-1",), security_groups=("sg-1",), kms_key="abc",
        instance_type="ml.m5.xlarge", network_isolation=True, tags={"team": "vision"}, data_uri="s3://b/x",
    )  # fmt: skip
    request = job(everything)
    assert request["StoppingCondition"] == {"MaxRuntimeInSeconds": 3600, "MaxWaitTimeInSeconds": 90000}
    assert request["VpcConfig"] == {"Subnets": ["subnet-1"], "SecurityGroupIds": ["sg-1"]}
    assert request["OutputDataConfig"]["KmsKeyId"] == request["ResourceConfig"]["VolumeKmsKeyId"] == "abc"
    assert request["EnableManagedSpotTraining"]
    assert request["EnableNetworkIsolation"]
    assert request["Tags"][0] == {"Key": "team", "Value": "vision"}
    assert job(replace(OPTIONS, user="anna"))["Tags"][-1] == {"Key": "wrn-user", "Value": "anna"}
    assert request["InputDataConfig"][1]["DataSource"]["S3DataSource"]["S3Uri"] == "s3://b/x"
    assert "cpu" in request["AlgorithmSpecification"]["TrainingImage"]
    warm = job(replace(OPTIONS, keep_warm=600, kms_key="abc"))
    assert warm["ResourceConfig"]["KeepAlivePeriodInSeconds"] == 600
    assert "VolumeKmsKeyId" not in warm["ResourceConfig"]  # g6e has local, encrypted storage, and takes no key
    assert [channel["ChannelName"] for channel in job(dataset="synthetic")["InputDataConfig"]] == ["code"]
    assert data_name(resolve(None, {"dataset": "auto"}).config) == "cifar100"


def test_which_disks_take_a_key_is_what_ec2_says_of_each_type() -> None:
    """By moto's copy of EC2's own list, as far as that goes: it has neither p2 and p3 nor p6e-gb200."""
    import botocore.session

    ec2 = pytest.importorskip("moto.ec2.models.instance_types", reason="needs the extra dev").INSTANCE_TYPES
    sagemaker = botocore.session.Session().get_service_model("sagemaker")
    types = [name for name in sagemaker.shape_for("TrainingInstanceType").enum if name.removeprefix("ml.") in ec2]
    assert len(types) > 100
    inside = {family(name) for name in types if ec2[name.removeprefix("ml.")].get("InstanceStorageSupported")}
    assert LOCAL_STORAGE & {family(name) for name in types} == inside


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (replace(OPTIONS, spot=True, keep_warm=60), "keep_warm: spot instances cannot be kept"),
        (replace(OPTIONS, bucket="My_Bucket"), "bucket: 'My_Bucket' is not a bucket name"),
        (replace(OPTIONS, bucket="s3://b/folder"), "without a folder"),
        (replace(OPTIONS, region="xx-north-1"), "has no known training images"),
        (replace(OPTIONS, max_cost=5), "give --price-per-hour"),
        (replace(OPTIONS, max_cost=0.1, price_per_hour=1.408), r"give at least \$0\.35"),
        (replace(OPTIONS, tags={"created-by": "me"}), "created-by is reserved"),
        (replace(OPTIONS, tags={"AWS:x": "y"}), "AWS:x is reserved"),
        (replace(OPTIONS, tags={"wrn-user": "y"}), "wrn-user is reserved"),
    ],
)
def test_what_cannot_be(options: DeployOptions, message: str) -> None:
    with pytest.raises(AwsError, match=message):
        job(options)


def test_paths_of_this_machine_are_refused_all_at_once() -> None:
    with pytest.raises(AwsError) as caught:
        job(output_dir="/o", model_dir="/m", resume="/c/7.ckpt", milestones=" ".join(map(str, range(1, 100))))
    lines = str(caught.value).split("\n")
    assert [line.partition(":")[0] for line in lines] == ["output_dir", "model_dir", "resume", "milestones"]
    with pytest.raises(AwsError, match=r"resume: never does not work for a job: .* leave it out"):
        job(resume="never")  # its second instance would start over


def test_money_and_time() -> None:
    plain = limits(OPTIONS)
    assert (plain.runtime, plain.wait, plain.cost) == (86400, 0, None)
    bought = limits(replace(OPTIONS, max_cost=7.2, price_per_hour=3.6, instance_count=2, spot=True))
    assert (bought.runtime, bought.wait) == (3300, 3300 + 86400)
    assert bought.cost == pytest.approx(7.2)
    assert limits(replace(OPTIONS, max_cost=7.2, price_per_hour=3.6, keep_warm=1000)).runtime == 5900
    assert limits(replace(OPTIONS, max_cost=1000, price_per_hour=3.6, max_runtime=600)).runtime == 600


def test_what_money_does_not_pay_for_is_not_begun() -> None:
    """--max-cost shortens the run to fit, as measured there; it never makes it longer, nor undoes another choice."""
    options = replace(OPTIONS, max_cost=7.2, price_per_hour=3.6)
    assert training_minutes(options) == 106.2  # 95% of 7,200 s less the time to stop, less three minutes
    assert training_minutes(replace(options, max_runtime=300)) == 2.5
    assert job(options, "sprint")["HyperParameters"] == {
        **{"recipe": "sprint", "budget_minutes": "106.2", "budget_epochs": "30"}
    }
    own = job(options, "sprint", budget_minutes="5")["HyperParameters"]
    assert own == {"recipe": "sprint", "budget_minutes": "5.0"}
    assert job(replace(options, max_cost=0), "sprint")["HyperParameters"] == {"recipe": "sprint"}


def test_names() -> None:
    assert job_name("record", "20261123-120000") == "wrn-record-20261123-120000"
    long = job_name("my recipe_" * 20, "20261123-120000")
    assert len(long) <= 63
    assert re.fullmatch(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}", long)


@pytest.mark.parametrize("recipe", recipe_names())
def test_a_recipe_arrives_as_it_left(recipe: str, tmp_path: Path) -> None:
    """Through the hyperparameters and their flags, the container resolves the same configuration."""
    asked = resolve(recipe, {"resolutions": "", "amp": "false", "seed": "7", "lr": "1e-05", "data_dir": "/here"})
    values = hyperparameters(asked.config, resolve(recipe, {}).config, recipe)
    assert set(values) <= {"recipe", "resolutions", "amp", "seed", "lr"}
    (tmp_path / "input/config").mkdir(parents=True)
    import json

    (tmp_path / "input/config/hyperparameters.json").write_text(json.dumps(values))
    arrived = parsed(hyperparameter_flags({"SAGEMAKER_BASE_DIR": str(tmp_path)}))
    assert arrived.config == asked.config.model_copy(update={"data_dir": None})
    assert arrived.recipe == recipe


@pytest.mark.parametrize(
    ("recipe", "flags"),
    [
        ("standard", {"epochs": "2"}),
        ("standard", {"epochs": "5", "warmup_epochs": "5"}),  # legal, but as a default it would adapt
        ("standard", {"val_fraction": "0.05", "batch_size": "256"}),  # given, so that they do not adapt to the data
        ("standard", {"compile": "graphs", "micro_batch": "512"}),
        ("paper", {"epochs": "50", "target_accuracy": "0.8"}),
        ("quickstart", {"zero_init_residual": "true", "momentum": "0"}),
    ],
)
def test_an_adapted_configuration_arrives_as_it_left(recipe: str, flags: dict[str, str]) -> None:
    asked = resolve(recipe, flags)
    values = hyperparameters(asked.config, job_base(asked.config, recipe), recipe)
    assert set(values) - {"recipe"} == set(flags)
    arrived = parsed([f"--{key}={value}" for key, value in values.items()])
    assert arrived.config == asked.config
    assert (arrived.config.given, arrived.changes) == (asked.config.given, asked.changes)


def test_a_file_of_one_s_own_with_the_name_of_a_recipe(tmp_path: Path) -> None:
    """The container has another under that name."""
    own = tmp_path / "quickstart.yaml"
    own.write_text("epochs: 3\n")
    asked = resolve(str(own), {"lr": "0.2"})
    values = hyperparameters(asked.config, job_base(asked.config, "quickstart"), "quickstart")
    arrived = parsed([f"--{key}={value}" for key, value in values.items()])
    assert arrived.config == asked.config
    assert (asked.config.depth, asked.config.warmup_epochs) == (28, 0.15)


def test_the_metrics_read_the_epoch_line(capsys: pytest.CaptureFixture[str]) -> None:
    row: dict[str, Any] = dict.fromkeys(reporters.FIELDS, 0.25) | {"dataset": "cifar100", "epoch": 3, "epochs": 100}
    row |= {"lr": 1.25e-05, "images_per_s": 28751.5, "val_loss": float("nan")}
    reporters.PlainReporter().epoch(row)
    line = capsys.readouterr().out.strip()
    found = {}
    for metric in metric_definitions():
        assert len(metric["Regex"]) <= 500
        if match := re.search(metric["Regex"], line):
            found[metric["Name"]] = match[1]
        assert not re.search(metric["Regex"], "trains with lr=0.1 epoch=3 in train_loss=1")
    expected = {name: "0.2500" for name in FIELDS if name != "val_loss"}
    assert found == expected | {"epoch": "3", "lr": "1.25e-05", "images_per_s": "2.875e+04"}
    resumed = metric_definitions()[-1]["Regex"]
    match = re.search(resumed, "resumed from step 1200 (epoch 6), 3 min ago: /opt/ml/checkpoints/x")
    assert match is not None
    assert match[1] == "1200"


def test_the_metrics_are_fields_of_the_history() -> None:
    assert set(FIELDS) < set(reporters.FIELDS)


def test_the_command_unpacks_the_code_and_ends_as_the_program(tmp_path: Path) -> None:
    """With folders of this test for /opt/ml, and a `python` that prints its arguments."""
    from wrn.aws.s3.code_archive import build_bundle

    assert len(COMMAND) <= 256
    bundle = build_bundle(Path(__file__).resolve().parents[4])
    channel = tmp_path / "input/data/code"
    channel.mkdir(parents=True)
    (channel / bundle.name).write_bytes(bundle.content)
    fake = tmp_path / "bin/python"
    fake.parent.mkdir()
    fake.write_text('#!/bin/bash\n[ "$1" != - ] || exit 1\necho "$$ $PWD $*"\n')
    fake.chmod(0o755)
    started = subprocess.Popen(
        ["/bin/bash", "-c", COMMAND.replace("/opt/ml", str(tmp_path))],
        env={"PATH": f"{fake.parent}:/usr/bin:/bin"},
        stdout=subprocess.PIPE,
        text=True,
    )
    out, _ = started.communicate(timeout=60)
    assert started.returncode == 0
    lines = out.splitlines()
    assert lines[1].endswith("-r src/requirements.txt")
    assert lines[2] == f"{started.pid} {tmp_path / 'code'} src/train.py"


names = st.from_regex(r"[a-zA-Z0-9](-?[a-zA-Z0-9]){0,30}", fullmatch=True)
options = st.builds(
    DeployOptions,
    name=names,
    account=st.from_regex(r"[0-9]{12}", fullmatch=True).filter(str.isascii),
    region=st.sampled_from(["us-east-1", "eu-west-1", "ap-southeast-2"]),
    bucket=st.sampled_from(["", "my-bucket", "a.b.c"]),
    instance_type=st.sampled_from(["ml.g5.xlarge", "ml.m5.large", "ml.p5.48xlarge", "ml.g6e.12xlarge", "ml.c5.xlarge"]),
    instance_count=st.integers(1, 16),
    volume_gb=st.integers(1, 500),
    spot=st.booleans(),
    max_runtime=st.integers(60, 28 * 86400),
    max_wait=st.integers(0, 40 * 86400),
    max_cost=st.sampled_from([0.0, 200.0, 1e6]),
    price_per_hour=st.floats(0.05, 100),
    keep_warm=st.sampled_from([0, 60, 3600]),
    subnets=st.just(("subnet-1", "subnet-2")),
    security_groups=st.sampled_from([("sg-1",), ("sg-1", "sg-2")]),
    kms_key=st.sampled_from(["", "1234abcd-12ab", "arn:aws:kms:us-west-2:111122223333:key/1234abcd"]),
    network_isolation=st.booleans(),
    tags=st.dictionaries(
        st.text("abcÄ漢 _.:/=+-@9", min_size=1, max_size=12),
        st.text("abcÄ漢 _.:/=+-@9", max_size=12),
        max_size=5,
    ),
)


@settings(max_examples=60, deadline=None)
@given(options=options, recipe=st.sampled_from(recipe_names()), seed=st.integers(0, 2**62))
def test_every_request_is_valid(options: DeployOptions, recipe: str, seed: int) -> None:
    if options.spot and options.keep_warm:
        options = replace(options, keep_warm=0)
    if options.max_wait < options.max_runtime:
        options = replace(options, max_wait=0)
    if options.max_cost and options.max_cost / options.price_per_hour / options.instance_count < 2:
        options = replace(options, max_cost=0)
    request = job(options, recipe, seed=str(seed))
    check_request("sagemaker", "CreateTrainingJob", request)
    if options.max_cost:
        cost = limits(options).cost
        assert cost is not None
        assert cost <= options.max_cost * 1.000001


def test_waiting_takes_at_least_as_long_as_running() -> None:
    spot = DeployOptions(name="j", account="123456789012", spot=True, max_runtime=7200, max_wait=3600)
    with pytest.raises(AwsError, match="max_wait: 60 min covers waiting and running"):
        limits(spot)
    assert limits(replace(spot, max_runtime=3600)).wait == 3600
