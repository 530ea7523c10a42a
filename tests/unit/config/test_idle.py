from __future__ import annotations

import pytest

from wrn.cli import main
from wrn.config.idle import NEEDS, idle_keys
from wrn.config.layers import resolve
from wrn.config.schema import Config


@pytest.mark.parametrize(
    ("recipe", "flags", "told"),
    [
        (None, {"sam_batch": "64"}, ["sam_batch: has no effect without sam_rho"]),
        (None, {"sam_batch": "64", "sam_rho": "0.1"}, []),
        ("record", {"sam_batch": "64"}, []),
        (
            None,
            {"milestones": "60", "muon_lr": "0.1"},
            ["milestones: has no effect without schedule step", "muon_lr: "],
        ),
        (None, {"milestones": "60", "schedule": "step"}, []),
        (None, {"mix_probability": "0.5"}, []),  # MixUp is on
        (
            None,
            {"mix_probability": "0.5", "mixup_alpha": "0"},
            ["mix_probability: has no effect without mixup_alpha or cutmix_alpha"],
        ),
        (None, {"patience": "0"}, []),  # turned off, which it is
        (None, {}, []),  # 15, by default
    ],
)
def test_settings_without_effect(recipe: str | None, flags: dict[str, str], told: list[str]) -> None:
    lines = idle_keys(resolve(recipe, flags))
    assert [line.startswith(start) for line, start in zip(lines, told, strict=True)] == [True] * len(told)


def test_the_list_names_only_existing_keys() -> None:
    for key, needs in NEEDS.items():
        for need in needs:
            other, _, value = need.partition(" ")
            assert {key, other} <= set(Config.model_fields)
            assert not value or getattr(Config.model_validate({other: value, "milestones": "9"}), other) == value


def test_config_reports_idle_keys_with_the_values(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "--json", "--budget-epochs", "5"]) == 0
    said = capsys.readouterr()
    assert said.err == "budget_epochs: has no effect without budget_minutes\n"
    assert said.out.startswith("{")
