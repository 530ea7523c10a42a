from __future__ import annotations

import json
from pathlib import Path

import pytest

from wrn.distributed.environment import (
    Cluster,
    cluster,
    hyperparameter_flags,
    place,
    torchrun_arguments,
    under_torchrun,
)
from wrn.errors import ConfigError

TORCHRUN = {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "MASTER_ADDR": "algo-1", "MASTER_PORT": "7777"}


def sagemaker(base: Path, **facts: object) -> dict[str, str]:
    (base / "input/config").mkdir(parents=True)
    (base / "input/config/hyperparameters.json").write_text("{}")
    (base / "input/config/resourceconfig.json").write_text(json.dumps(facts))
    return {"SAGEMAKER_BASE_DIR": str(base)}


def test_one_process_without_torchrun_variables() -> None:
    here = place({})
    assert (here.rank, here.world_size, here.local_rank, here.may_restart) == (0, 1, 0, False)
    assert not under_torchrun({})


def test_several_processes_under_torchrun() -> None:
    here = place({**TORCHRUN, "TORCHELASTIC_MAX_RESTARTS": "3", "TORCHELASTIC_RESTART_COUNT": "2"})
    assert (here.rank, here.world_size, here.local_rank, here.attempt, here.may_restart) == (5, 8, 1, 2, True)
    assert under_torchrun(TORCHRUN)


@pytest.mark.parametrize("missing", ["WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR"])
def test_incomplete_variables_are_an_error(missing: str) -> None:
    environ = {key: value for key, value in TORCHRUN.items() if key != missing}
    with pytest.raises(ConfigError, match=f"{missing} not set.*torchrun"):
        place(environ)


@pytest.mark.parametrize("name", ["RANK", "WORLD_SIZE", "LOCAL_RANK", "TORCHELASTIC_MAX_RESTARTS"])
def test_non_numbers_are_an_error(name: str) -> None:
    with pytest.raises(ConfigError, match=f'{name} is "a", not a number; start several processes with torchrun'):
        place({**TORCHRUN, name: "a"})


def test_the_hosts_of_a_job(tmp_path: Path) -> None:
    assert cluster({"SAGEMAKER_BASE_DIR": "/nowhere"}) is None
    environ = sagemaker(tmp_path, current_host="algo-2", hosts=["algo-2", "algo-1"])
    assert cluster(environ) == Cluster(("algo-1", "algo-2"), 1)
    eth = sagemaker(tmp_path / "eth", current_host="algo-2", hosts=["algo-2", "algo-1"], network_interface_name="eth0")
    assert cluster(eth) == Cluster(("algo-1", "algo-2"), 1, "eth0")
    toolkit = {**environ, "SM_HOSTS": '["a", "b", "c"]', "SM_CURRENT_HOST": "c"}
    assert cluster(toolkit) == Cluster(("a", "b", "c"), 2)
    with pytest.raises(ConfigError, match="not one of the hosts"):
        cluster({**environ, "SM_CURRENT_HOST": "algo-9"})


def test_a_job_without_a_resource_file_has_one_host(tmp_path: Path) -> None:
    environ = sagemaker(tmp_path)
    (tmp_path / "input/config/resourceconfig.json").unlink()
    assert cluster(environ) == Cluster(("localhost",), 0)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("SM_HOSTS", "algo-1,algo-2", "Expecting value"),
        ("SM_HOSTS", '"algo-1"', "'algo-1' is no list of names"),
        ("SM_HOSTS", "[]", "is no list of names"),
        ("SM_HOSTS", "[1]", "is no list of names"),
        ("SM_RESOURCE_CONFIG", "{", "Expecting property name"),
        ("SM_RESOURCE_CONFIG", "3", "not iterable"),
    ],
)
def test_unreadable_hosts_are_reported(name: str, text: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=rf"the hosts of the job cannot be read \(.*{words}.*\); SM_HOSTS must be "):
        cluster({**sagemaker(tmp_path), name: text})


def test_arguments_of_torchrun() -> None:
    assert torchrun_arguments(4, None) == ["--standalone", "--nproc-per-node=4"]
    assert torchrun_arguments(4, Cluster(("algo-1",), 0)) == ["--standalone", "--nproc-per-node=4"]
    assert torchrun_arguments(8, Cluster(("algo-1", "algo-2"), 1)) == [
        *("--nnodes=2", "--node-rank=1", "--nproc-per-node=8", "--master-addr=algo-1", "--master-port=7777"),
    ]


def test_hyperparameters_become_flags_without_the_toolkit(tmp_path: Path) -> None:
    assert hyperparameter_flags({"SAGEMAKER_BASE_DIR": "/nowhere"}) == []
    environ = sagemaker(tmp_path)
    file = tmp_path / "input/config/hyperparameters.json"
    values = {"recipe": "record", "batch_size": '"256"', "resume": "-x", "sagemaker_program": "train.py"}
    file.write_text(json.dumps({**values, "_tuning_objective_metric": "val_top1"}))
    assert hyperparameter_flags(environ) == ["--recipe=record", '--batch-size="256"', "--resume=-x"]
    assert hyperparameter_flags({**environ, "SM_HPS": "{}"}) == []
    file.write_text("[1]")
    with pytest.raises(ConfigError, match=r"hyperparameters\.json: cannot be read"):
        hyperparameter_flags(environ)


def test_the_hosts_by_the_toolkit_s_variable(tmp_path: Path) -> None:
    environ = sagemaker(tmp_path, current_host="algo-1", hosts=["algo-1"])
    environ["SM_RESOURCE_CONFIG"] = json.dumps({"current_host": "algo-2", "hosts": ["algo-1", "algo-2"]})
    assert cluster(environ) == Cluster(("algo-1", "algo-2"), 1)
