from __future__ import annotations

import functools
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wrn.config.conflicts import conflicts
from wrn.config.layers import Layer, Resolved, find_recipe, merge, read_layer, recipe_names, recipe_root, resolve
from wrn.config.schema import Config, Fields
from wrn.errors import ConfigError


def changed(resolved: Resolved) -> dict[str, Any]:
    return {key: getattr(resolved.config, key) for key, origin in resolved.origins.items() if origin == "adapted"}


@pytest.mark.parametrize(
    ("recipe", "flags", "adapted"),
    [
        (None, {"epochs": "1"}, {"warmup_epochs": 0.05}),
        (None, {"epochs": "2"}, {"warmup_epochs": 0.1}),
        (None, {"epochs": "5"}, {"warmup_epochs": 0.25}),  # else all of it would be warm-up
        (None, {"epochs": "6"}, {}),
        (None, {"warmup_epochs": "100"}, {}),  # a person may want a run that is all warm-up
        (None, {"warmup_epochs": "200"}, {"epochs": 295}),  # as long after the warm-up as before
        (None, {"warmup_epochs": "100000"}, {"epochs": 100_000}),
        ("sprint", {"epochs": "1"}, {"warmup_epochs": 0.0666667}),
        ("paper", {"epochs": "100"}, {"milestones": "30 60 80"}),
        ("paper", {"epochs": "1"}, {"milestones": "0.3 0.6 0.8"}),
        ("paper", {"milestones": "60 300"}, {"epochs": 340}),
        ("paper", {"milestones": ""}, {"schedule": "cosine"}),
        (None, {"schedule": "step"}, {"milestones": "30 60 80"}),
        (None, {"schedule": "step", "epochs": "2"}, {"warmup_epochs": 0.1, "milestones": "0.6 1.2 1.6"}),
        (None, {"schedule": "step", "milestones": "50 100"}, {"epochs": 120}),
        (None, {"min_lr": "0.5"}, {"lr": 0.5}),
        ("strong", {"target_accuracy": "0.8"}, {"val_fraction": 0.05}),
        (None, {"momentum": "0"}, {"nesterov": False}),
        ("quickstart", {"zero_init_residual": "true"}, {"optimizer": "sgd"}),
        (None, {"micro_batch": "512"}, {"batch_size": 512}),
        (None, {"compile": "graphs"}, {"processes": 1}),
        (None, {"compile": "graphs", "processes": "auto"}, {}),
        (None, {"processes": "4", "epochs": "50"}, {}),
    ],
)
def test_defaults_adapt_to_flags(recipe: str | None, flags: dict[str, str], adapted: dict[str, Any]) -> None:
    resolved = resolve(recipe, flags)
    assert changed(resolved) == adapted
    assert resolved.config.given == set(flags)
    assert {line.partition(":")[0] for line in resolved.changes} == set(adapted)


def test_each_change_is_one_line() -> None:
    assert resolve(None, {"epochs": "2", "schedule": "step"}).changes == (
        "warmup_epochs: 0.1 instead of 5, as epochs is 2",
        'milestones: "0.6 1.2 1.6" instead of "", as schedule is step',
    )


@pytest.mark.parametrize(
    ("default", "flags", "adapted"),
    [
        ({"min_lr": 0.01}, {"lr": 0.005}, {"min_lr": 0.0005}),  # a tenth of the rate, as before
        ({"min_lr": 0.01, "lr": 0.5}, {"lr": 0.005}, {"min_lr": 0.0001}),
        ({"micro_batch": 64}, {"batch_size": 32}, {"micro_batch": "auto"}),
        ({"momentum": 0, "nesterov": False}, {"nesterov": True}, {"momentum": 0.9}),
        ({"zero_init_residual": True}, {"optimizer": "muon"}, {"zero_init_residual": False}),
        ({"target_accuracy": 0.5, "val_fraction": 0.1}, {"val_fraction": 0}, {"target_accuracy": 0.0}),
        ({"processes": 4}, {"device": "cuda:1"}, {"processes": "auto"}),
        ({"device": "cuda:1"}, {"processes": 4}, {"device": "cuda"}),
        ({"compile": "graphs"}, {"processes": 4}, {"compile": True}),
        ({"processes": 4}, {"compile": "graphs"}, {"processes": 1}),
        ({"amp_dtype": "fp16"}, {"device": "cpu"}, {"amp_dtype": "auto"}),
        ({"device": "cpu"}, {"amp_dtype": "fp16"}, {"device": "auto"}),
        ({"milestones": "150", "lr": 0.2}, {"schedule": "step"}, {"epochs": 170}),  # its last fifth follows
    ],
)
def test_a_recipe_that_ships_adapts_to_a_person(
    default: dict[str, Any], flags: dict[str, Any], adapted: dict[str, Any]
) -> None:
    resolved = merge([Layer("r.yaml", default, given=False), Layer("flag", flags)], "r")
    assert changed(resolved) == adapted
    assert all(getattr(resolved.config, key) == value for key, value in flags.items())


def test_a_recipe_s_own_keys_come_before_config_yaml() -> None:
    edited = Layer("config.yaml", {"epochs": 100, "warmup_epochs": 50, "lr": 0.1}, given=False)
    recipe = Layer("mine.yaml", {"epochs": 20}, given=False)
    resolved = merge([edited, recipe, Layer("flag", {})], "mine")
    assert (resolved.config.epochs, changed(resolved)) == (20, {"warmup_epochs": 10.0})
    # What config.yaml merely repeats of the schema does not stand against what was changed there.
    resolved = merge([Layer("config.yaml", {"epochs": 2, "warmup_epochs": 5}, given=False)], "standard")
    assert changed(resolved) == {"warmup_epochs": 0.1}


def test_two_values_that_a_person_gave_contradict_each_other(tmp_path: Path) -> None:
    own = tmp_path / "mine.yaml"
    own.write_text("training: {warmup_epochs: 5}\n")
    with pytest.raises(ConfigError, match="warmup_epochs: 5 is longer than the run"):
        resolve(str(own), {"epochs": "2"})
    with pytest.raises(ConfigError, match="warmup_epochs: 5 is longer than the run"):
        resolve(None, {"epochs": "2", "warmup_epochs": "5"})
    own.write_text("epochs: 2\n")
    assert changed(resolve(str(own), {})) == {"warmup_epochs": 0.1}


def test_a_recipe_by_its_path_is_a_default_if_it_ships(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(__file__).parents[3])
    for name in ("paper", "configs/paper.yaml", "./configs/../configs/paper.yaml"):
        assert changed(resolve(name, {"epochs": "100"})) == {"milestones": "30 60 80"}


def values_of(key: str) -> st.SearchStrategy[Any]:
    """Small, large and other values of a key, each valid by itself."""
    field = Config.model_fields[key]
    bounds = {
        name: getattr(rule, name) for rule in field.metadata for name in ("ge", "gt", "le", "lt") if hasattr(rule, name)
    }
    special = {
        "depth": st.sampled_from([10, 16, 28, 10_000]),
        "device": st.sampled_from(["auto", "cpu", "cuda", "cuda:1", "mps"]),
        "micro_batch": st.sampled_from(["auto", 1, 2, 10**9]),
        "processes": st.sampled_from(["auto", 1, 2, 1000]),
        "compile": st.sampled_from([True, False, "graphs"]),
        "resolutions": st.sampled_from(["", "8:1", "8:0.5 32:0.5"]),
        "milestones": st.sampled_from(["", "0.001", "1", "99999", "0.5 1 99999.9"]),
    }
    if key in special:
        return special[key]
    if field.annotation is bool:
        return st.booleans()
    if field.annotation in (int, float):
        low = bounds.get("ge", bounds.get("gt", 0))
        high = bounds.get("le", bounds.get("lt", 10**9))
        if field.annotation is int:
            return st.sampled_from([low, low + 1, high - ("lt" in bounds)]) | st.integers(low, high - ("lt" in bounds))
        edges: dict[str, Any] = {"exclude_min": "gt" in bounds, "exclude_max": "lt" in bounds}
        near = [low, math.nextafter(low, high), math.nextafter(high, low), high]
        return st.floats(low, high, **edges) | st.sampled_from(near[edges["exclude_min"] : 4 - edges["exclude_max"]])
    if "Literal" in str(field.annotation):
        return st.sampled_from(get_args(field.annotation))
    return st.just("somewhere")


@functools.cache
def layers_of(recipe: str) -> tuple[Layer, ...]:
    files = [recipe_root() / "config.yaml", *([] if recipe == "standard" else [find_recipe(recipe)])]
    return tuple(replace(read_layer(path, path.name), given=False) for path in files)


@pytest.mark.parametrize("key", sorted(Config.model_fields))
@settings(max_examples=10)
@given(data=st.data())
def test_no_key_alone_is_an_error(key: str, data: st.DataObject) -> None:
    """With any recipe that ships; and the same key leads to the same configuration each time."""
    value = data.draw(values_of(key))
    for recipe in recipe_names():
        resolved = merge([*layers_of(recipe), Layer("flag", {key: value})], recipe)
        assert getattr(resolved.config, key) == getattr(Fields.model_validate({key: value}), key)
        assert resolved.config.given == {key}
        assert not any(conflict.problem for conflict in conflicts(dict(resolved.config)))
        again = merge([*layers_of(recipe), Layer("flag", {key: getattr(resolved.config, key)})], recipe)
        assert again.config == resolved.config


ABOUT_OTHERS = (
    *("min_lr", "lr", "warmup_epochs", "epochs", "milestones", "schedule", "target_accuracy", "val_fraction"),
    *("nesterov", "momentum", "zero_init_residual", "optimizer", "micro_batch", "batch_size", "device", "processes"),
    *("compile", "amp", "amp_dtype"),
)


@pytest.mark.parametrize("recipe", recipe_names())
@settings(max_examples=40)
@given(data=st.data())
def test_only_given_keys_contradict_each_other(recipe: str, data: st.DataObject) -> None:
    keys = data.draw(st.lists(st.sampled_from(ABOUT_OTHERS), unique=True, max_size=5))
    flags = {key: data.draw(values_of(key)) for key in keys}
    try:
        resolved = merge([*layers_of(recipe), Layer("flag", flags)], recipe)
    except ConfigError as error:
        for line in str(error).split("\n"):
            assert len(set(re.findall(r"\w+", line)) & set(flags)) >= 2, line
    else:
        assert all(getattr(resolved.config, key) == getattr(Fields(**{key: flags[key]}), key) for key in flags)
        assert not set(changed(resolved)) & set(flags)


@pytest.mark.parametrize("recipe", recipe_names())
def test_what_ships_does_not_contradict_itself(recipe: str) -> None:
    resolved = resolve(recipe, {})
    assert (resolved.changes, resolved.config.given) == ((), frozenset())
