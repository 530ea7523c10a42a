"""`wrn fetch`: a job's model, ready to be used."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fake_account import BUCKET, archive, client, make_bucket, make_job
from tiny import tiny_dataset
from wrn.cli import main
from wrn.model import ModelInfo, WideResNet, load_model, save_model


@pytest.mark.usefixtures("account")
def test_a_fetched_model_can_be_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_bucket(BUCKET, ours=True)
    make_job("wrn-a")
    data = tiny_dataset()
    model = WideResNet(10, 1, num_classes=data.num_classes)
    info = ModelInfo(
        model.architecture, data.mean, data.std, data.classes, data.superclasses, data.superclass_of, "folder"
    )
    save_model(tmp_path / "made", model, info)
    files = {path.name: path.read_bytes() for path in (tmp_path / "made").iterdir()}
    client("s3").put_object(Bucket=BUCKET, Key="wrn/output/wrn-a/output/model.tar.gz", Body=archive(files))
    run = tmp_path / "my run"
    assert main(["fetch", "wrn-a", "--output-dir", str(run), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["model"] == str(run / "model")
    _, found = load_model(run / "model")
    assert found.classes == data.classes
    assert main(["fetch", "wrn-a", "--output-dir", str(run)]) == 0
    assert f"next: wrn evaluate --model-dir '{run}/model'\n" in capsys.readouterr().out
