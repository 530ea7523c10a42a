from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from wrn.cli import main
from wrn.config.files import SECTION_NAMES, canonical, to_yaml
from wrn.config.layers import Resolved, recipe_names, resolve
from wrn.config.schema import ALIASES, SECTIONS, Config
from wrn.errors import ConfigError


def load(folder: Path, text: str) -> Resolved:
    path = folder / "r.yaml"
    path.write_text(text)
    return resolve(str(path), {})


def problems(folder: Path, text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(folder, text)
    return str(caught.value).split("\n")


def test_the_names_of_the_sections() -> None:
    assert SECTION_NAMES == ("data", "augmentation", "model", "training", "stopping", "machine", "output")
    # A name that stands for a section cannot stand for a key, nor one key in two sections.
    assert not set(SECTION_NAMES) & {*Config.model_fields, *ALIASES}
    assert sum(len(section.model_fields) for section in SECTIONS) == len(Config.model_fields)


@pytest.mark.parametrize(
    "text",
    [
        "model:\n  depth: 16\n  widen_factor: 4\ntraining:\n  lr: 0.2\n",
        "depth: 16\nwiden_factor: 4\nlr: 0.2\n",
        "model:\n  depth: 16\n\nlr: 0.2\nwiden_factor: 4\n",
        "model: {depth: 16, widen-factor: 4, lr: 0.2}\n",  # one in another section
        "output: {lr: 0.2}\nmodel:\ntraining: {depth: 16, widen_factor: 4}\n",
    ],
)
def test_sections_are_for_the_reader(text: str, tmp_path: Path) -> None:
    resolved = load(tmp_path, text)
    assert resolved.config == Config(depth=16, widen_factor=4, lr=0.2)
    assert {key for key, origin in resolved.origins.items() if origin == "r.yaml"} == {"depth", "widen_factor", "lr"}


def test_values_in_a_section_are_read_as_those_of_flags(tmp_path: Path) -> None:
    config = load(tmp_path, "training: {epochs: 010, milestones: [30, 60]}\nmachine: {amp: no}\n").config
    assert (config.epochs, config.milestones, config.amp) == (10, "30 60", False)


def test_every_mistake_in_a_file_is_reported_at_once(tmp_path: Path) -> None:
    text = "model: wide\ntrainnig:\n  epocs: 3\n  lr: -1\nLR: 2\nOutput: {keep: 3}\nmodle:\nmachine: {gpus: {a: 1}}\n"
    assert problems(tmp_path, text) == [
        "model (r.yaml): is a section, not a key; give the keys of model below it",
        "trainnig (r.yaml): is not a section; did you mean training?",
        "Output (r.yaml): is not a section; did you mean output?",
        "trainnig.epocs (r.yaml): is not a key of the configuration; did you mean epochs?",
        "LR (r.yaml): is not a key of the configuration; did you mean lr?",
        "modle (r.yaml): is not a key of the configuration; did you mean model?",
        "machine.gpus (r.yaml): is not a key of the configuration",
        "lr (r.yaml): '-1' is not allowed; input should be greater than 0",
    ]


def test_a_key_used_as_a_section(tmp_path: Path) -> None:
    (line,) = problems(tmp_path, "optimizer:\n  lr: 0.2\n")
    assert line.startswith("optimizer (r.yaml): is not a section; choose from data, augmentation, model, training,")


@pytest.mark.parametrize(
    ("text", "second", "first"),
    [
        ("epochs: 30\ntraining: {epochs: 40}\n", "training.epochs", "epochs"),
        ("training: {epochs: 40}\nstopping: {epochs: 40}\n", "stopping.epochs", "training.epochs"),
        ("data: {train_dir: /x}\ndata-dir: /y\n", "data-dir", "data.train_dir"),
    ],
)
def test_a_key_given_twice_in_different_places(text: str, second: str, first: str, tmp_path: Path) -> None:
    assert problems(tmp_path, text) == [f"{second} (r.yaml): is set twice, also as {first}; remove one of the two"]


@pytest.mark.parametrize("text", ["model: {depth: 16}\nmodel: {depth: 22}\n", "model: {depth: 16, depth: 22}\n"])
def test_a_section_or_a_key_in_it_given_twice(text: str, tmp_path: Path) -> None:
    assert "is set twice" in problems(tmp_path, text)[0]


@pytest.mark.parametrize("name", recipe_names())
def test_a_written_configuration_is_a_recipe(name: str, tmp_path: Path) -> None:
    resolved = resolve(name, {"output_dir": "x", "seed": "3"})
    text = to_yaml(resolved.config)
    assert list(yaml.safe_load(text)) == list(SECTION_NAMES)
    assert load(tmp_path, text).config == resolved.config
    assert load(tmp_path, to_yaml(resolved.config, resolved.origins)).config == resolved.config
    flat = yaml.safe_dump(resolved.config.model_dump(mode="json"))  # as earlier versions wrote it
    assert load(tmp_path, flat).config == resolved.config


@given(st.text(st.characters(exclude_characters="\x00"), min_size=1))
def test_any_text_survives_a_written_configuration(text: str) -> None:
    written = to_yaml(Config().model_copy(update={"resume": text}), dict.fromkeys(Config.model_fields, "a remark"))
    assert len(written.splitlines()) == len(Config.model_fields) + len(SECTIONS)
    assert yaml.safe_load(written)["output"]["resume"] == text


def test_config_prints_a_recipe(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "--recipe", "paper", "--lr", "0.3"]) == 0
    shown = capsys.readouterr().out
    assert "\n  lr: 0.3" in shown
    assert load(tmp_path, shown).config == resolve("paper", {"lr": "0.3"}).config


def test_canonical_names() -> None:
    names: dict[str, Any] = {"train-dir": "data_dir", " batch-size ": "batch_size", "lr": "lr"}
    assert {name: canonical(name) for name in names} == names
