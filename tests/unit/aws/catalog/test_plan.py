from __future__ import annotations

from datetime import date
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wrn.aws.catalog.instances import A10G, CATALOGUE, L4, T4, V100, Mfu
from wrn.aws.catalog.plan import (
    Assumptions,
    Plan,
    Row,
    foreign_prices,
    images_that_fit,
    make_plan,
    mark_frontier,
    within,
)
from wrn.aws.catalog.prices import Price, Source, bundled_prices
from wrn.aws.jobs.options import DeployOptions
from wrn.config.layers import resolve
from wrn.config.schema import Config
from wrn.errors import AwsError

TODAY = date(2026, 11, 23)


def configured(**values: object) -> Config:
    return Config.model_validate({"warmup_epochs": 0, "val_fraction": 0, **values})


def planned(region: str = "us-east-1", **values: object) -> Plan:
    return make_plan(configured(**values), bundled_prices(), region, today=TODAY)


def row_of(plan: Plan, name: str) -> Row:
    return next(row for row in plan.rows if row.instance.name == name)


@pytest.mark.parametrize(
    ("name", "minutes"),
    [("ml.g5.xlarge", 94), ("ml.g6.xlarge", 54), ("ml.g6e.xlarge", 18), ("ml.p3.2xlarge", 52), ("ml.g4dn.xlarge", 101)],
)
def test_100_epochs_of_wrn_28_10_at_the_assumed_40_percent(name: str, minutes: int) -> None:
    """157.3 PFLOP over 0.4 times 70, 121, 362, 125 and 65 TFLOP/s."""
    row = row_of(planned(), name)
    assert row.mfu == Mfu(0.40, False, row.mfu.source)
    assert round(100 * row.seconds_per_epoch / 60) == minutes


def test_the_billed_time_by_hand() -> None:
    """Start 180 s, 5,617.9 s of training, 3.7 s for one evaluation: 1.6116 h at $1.408."""
    row = row_of(planned(eval_epochs=0), "ml.g5.xlarge")
    assert row.hours == pytest.approx(1.6116, abs=1e-4)
    assert row.cost == pytest.approx(2.269, abs=1e-3)
    assert row.spot_cost == pytest.approx(0.4 * row.cost)


def test_no_other_instance_beats_the_default_for_the_standard_recipe() -> None:
    plan = make_plan(resolve(None, {}).config, bundled_prices(), "us-east-1", today=TODAY)
    assert row_of(plan, DeployOptions.instance_type).on_frontier


def test_several_gpus_reach_less_than_their_sum() -> None:
    plan = planned(batch_size=4096)
    one, four = row_of(plan, "ml.g5.xlarge"), row_of(plan, "ml.g5.12xlarge")
    assert one.seconds_per_epoch / four.seconds_per_epoch == pytest.approx(4 * 0.80)
    v100, nvlink = row_of(plan, "ml.p3.2xlarge"), row_of(plan, "ml.p3.8xlarge")
    assert v100.seconds_per_epoch / nvlink.seconds_per_epoch == pytest.approx(4 * 0.95)


def test_a_step_takes_as_long_as_its_launches() -> None:
    """A small network on eight H100s: 196 steps of 5 ms, however fast the GPUs are."""
    row = row_of(planned(depth=10, widen_factor=1), "ml.p5.48xlarge")
    assert row.seconds_per_epoch == pytest.approx(196 * 0.005)


def test_fewer_processes_than_gpus() -> None:
    row = row_of(planned(processes=1), "ml.g5.12xlarge")
    assert row.gpus_used == 1
    assert row.seconds_per_epoch == row_of(planned(), "ml.g5.xlarge").seconds_per_epoch
    assert row.remarks == ("processes 1 leaves 3 GPUs idle",)


def test_more_processes_than_gpus_are_left_out() -> None:
    """`wrn train` refuses them too."""
    plan = planned(processes=4)
    assert {row.instance.gpus for row in plan.rows} == {4, 8}
    assert next(item.reason for item in plan.left_out if item.name == "ml.g5.xlarge") == "fewer GPUs than processes 4"


def test_a_plan_is_for_gpus() -> None:
    with pytest.raises(AwsError, match="device: cpu leaves an instance's GPUs idle"):
        planned(device="cpu")


def test_without_mixed_precision_the_peak_is_lower() -> None:
    ratio = row_of(planned(amp=False), "ml.g5.xlarge").seconds_per_epoch
    assert ratio / row_of(planned(), "ml.g5.xlarge").seconds_per_epoch == pytest.approx(70 / 35)


def test_a_given_mfu_applies_to_all_gpus() -> None:
    given_mfu = Assumptions(mfu=Mfu(0.8, False, "given"))
    plan = make_plan(configured(), bundled_prices(), "us-east-1", today=TODAY, assumptions=given_mfu)
    half = row_of(planned(), "ml.g5.xlarge").seconds_per_epoch / 2
    assert row_of(plan, "ml.g5.xlarge").seconds_per_epoch == pytest.approx(half)


@pytest.mark.parametrize(
    ("values", "gpu", "gpus", "fits"),
    [
        ({}, T4, 1, 256),
        ({"batch_size": 4096}, A10G, 1, 1024),
        ({"batch_size": 4096}, A10G, 4, 1024),
        ({"batch_size": 16384}, A10G, 4, None),
        ({"batch_size": 4096, "micro_batch": 4096}, A10G, 1, None),
        ({"batch_size": 4096, "micro_batch": 64}, T4, 1, 64),
        ({"widen_factor": 64, "depth": 100}, L4, 1, None),
    ],
)
def test_what_fits(values: dict[str, object], gpu: Any, gpus: int, fits: int | None) -> None:
    assert images_that_fit(configured(**values), gpu, gpus, 0.9) == fits


def test_p3() -> None:
    elsewhere, west = row_of(planned(), "ml.p3.2xlarge"), row_of(planned("us-west-2"), "ml.p3.2xlarge")
    assert elsewhere.remarks[0] == "p3 is being retired"
    assert west.remarks[0] == "not offered in us-west-2"
    assert not west.usable
    assert elsewhere.image.torch == "2.8"
    assert "no security patches since 2026-08-06" in elsewhere.remarks[1]
    assert elsewhere.instance.gpu is V100


def test_types_without_a_price_or_an_image_are_left_out() -> None:
    plan = make_plan(configured(), bundled_prices(), "us-east-1", today=TODAY, image="2.14")
    reasons = {item.name: item.reason for item in plan.left_out}
    assert reasons["ml.p4de.24xlarge"] == "price not known"
    assert reasons["ml.p3.2xlarge"] == "its V100 is not supported by image 2.14"
    assert len(plan.rows) + len(plan.left_out) == len(CATALOGUE)


def test_what_is_wrong_for_all_types_is_an_error() -> None:
    with pytest.raises(AwsError, match="us-west-2"):
        planned("us-wst-2")
    with pytest.raises(AwsError, match=r'"1\.0" is unknown'):
        make_plan(configured(), bundled_prices(), "us-east-1", today=TODAY, image="1.0")


def test_prices_of_another_region_are_noted() -> None:
    assert foreign_prices(planned("eu-west-1").rows, "eu-west-1")
    assert not foreign_prices(planned("us-west-2").rows, "us-west-2")
    live = {"ml.g5.xlarge": Price(1.5, "eu-west-1", Source("AWS Price List", "2026-11-01"))}
    rows = make_plan(configured(), live, "eu-west-1", today=TODAY).rows
    assert not foreign_prices(rows, "eu-west-1")


CONFIGS = st.builds(
    configured,
    epochs=st.integers(1, 500),
    batch_size=st.integers(1, 20_000),
    depth=st.sampled_from([10, 16, 28, 40]),
    widen_factor=st.integers(1, 20),
    sam_rho=st.sampled_from([0.0, 0.1]),
    sam_batch=st.sampled_from([0, 32]),
    resolutions=st.sampled_from(["", "20:0.35 24:0.4 32:0.25", "16:1"]),
    val_fraction=st.sampled_from([0.0, 0.1]),
    scale_lr=st.sampled_from(["none", "linear"]),
    amp=st.booleans(),
)
PRICES = st.fixed_dictionaries({name: st.floats(0.1, 100) for name in CATALOGUE}).map(
    lambda table: {name: Price(dollars, "us-west-2", Source("made up", "")) for name, dollars in table.items()}
)


@given(CONFIGS, st.integers(1, 500))
def test_more_epochs_are_never_cheaper(config: Config, more: int) -> None:
    longer = config.model_copy(update={"epochs": config.epochs + more})
    plans = [make_plan(which, bundled_prices(), "us-west-2", today=TODAY) for which in (config, longer)]
    costs = [{row.instance.name: row.cost for row in plan.rows} for plan in plans]
    assert costs[0].keys() == costs[1].keys()
    assert all(costs[1][name] > costs[0][name] for name in costs[0])


@given(CONFIGS, PRICES)
def test_the_frontier_is_never_dominated(config: Config, prices: dict[str, Price]) -> None:
    rows = make_plan(config, prices, "us-west-2", today=TODAY).rows
    assert [row.cost for row in rows] == sorted(row.cost for row in rows)
    usable = [row for row in rows if row.usable]
    frontier = [row for row in rows if row.on_frontier]
    assert all(row.usable for row in frontier)
    assert bool(frontier) == bool(usable)
    for row in usable:
        better = [other for other in usable if other.cost < row.cost and other.hours < row.hours]
        if row.on_frontier:
            assert not better
        else:
            assert any(other.cost <= row.cost and other.hours <= row.hours for other in frontier)


@given(CONFIGS, PRICES, st.floats(0.01, 50), st.floats(0.01, 500))
def test_limits_only_remove_rows(config: Config, prices: dict[str, Price], hours: float, cost: float) -> None:
    rows = make_plan(config, prices, "us-west-2", today=TODAY).rows
    kept = within(rows, max_hours=hours, max_cost=cost)
    assert kept == [row for row in rows if row in kept]
    assert all(row.hours <= hours and row.cost <= cost for row in kept)
    assert all(row in kept for row in rows if row.hours <= hours and row.cost <= cost)
    # Whatever beats a row is within every limit that the row is within, so the marks stay correct.
    assert mark_frontier(kept) == kept
