from __future__ import annotations

import re
import tempfile
from contextlib import suppress
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from wrn.config.layers import Layer, merge, read_layer, recipe_names, recipe_root, resolve
from wrn.config.schema import ALIASES, Config
from wrn.errors import ConfigError


def test_config_yaml_restates_every_default() -> None:
    sections = yaml.safe_load((recipe_root() / "config.yaml").read_text())
    stated = {key: value for section in sections.values() for key, value in section.items()}
    assert set(stated) == set(Config.model_fields)
    assert Config.model_validate(stated) == Config()


def test_later_layers_win_and_origins_are_kept() -> None:
    resolved = merge([Layer("config.yaml", {"lr": 0.2, "epochs": 5}), Layer("flag", {"lr": "0.3"})], "x")
    assert resolved.config.lr == 0.3
    assert resolved.config.epochs == 5
    assert [resolved.origins[key] for key in ("lr", "epochs", "depth")] == ["flag", "config.yaml", "default"]


def test_all_errors_are_reported_at_once_with_key_origin_value_and_range() -> None:
    with pytest.raises(ConfigError) as caught:
        merge([Layer("r.yaml", {"epocs": 3, "lr": -1, "depth": 27}), Layer("flag", {"label_smoothing": 2})], "x")
    lines = str(caught.value).split("\n")
    assert len(lines) == 4
    assert lines[0] == "epocs (r.yaml): is not a key of the configuration; did you mean epochs?"
    assert "lr (r.yaml): -1 is not allowed; input should be greater than 0" in lines
    assert "depth (r.yaml): 27 is not allowed; must be 6n+4; the nearest are 22 and 28" in lines
    assert "label_smoothing (flag): 2 is not allowed; input should be less than 1" in lines


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"min_lr": 1, "lr": 0.1}, "min_lr: 1 is above lr (0.1)"),
        ({"processes": 4, "device": "cuda:1"}, "device: cuda:1 is one GPU; give --device cuda for several processes"),
        (
            {"epochs": 2, "warmup_epochs": 5},
            "warmup_epochs: 5 is longer than the run (2 epochs); give --warmup-epochs 0.2",
        ),
        ({"schedule": "step", "milestones": "50 100", "epochs": 100}, "milestones: 100 is never reached"),
        ({"schedule": "step", "milestones": ""}, "milestones: is empty"),
        ({"target_accuracy": 0.5, "val_fraction": 0}, "target_accuracy: needs a validation split"),
        ({"momentum": 0, "nesterov": True}, "nesterov: needs momentum"),
        ({"micro_batch": 512, "batch_size": 256}, "micro_batch: 512 is above batch_size (256)"),
        ({"compile": "graphs", "processes": 2}, "compile: graphs works with one process only"),
        ({"amp_dtype": "fp16", "device": "cpu"}, "amp_dtype: fp16 needs a GPU, but device is cpu"),
        ({"device": "gpu"}, "device (flag): 'gpu' is not allowed; must be auto, cpu, cuda, cuda:1 or mps"),
        ({"device": "CPU"}, "'CPU' is not allowed; must be auto, cpu"),
        ({"output_dir": "~nobody-here/x"}, "there is no such user; give the full path"),
        ({"micro_batch": 0}, "must be at least 1, or auto"),
        ({"keep": 1}, "greater than or equal to 2"),
        ({"lr": float("nan")}, "finite"),
    ],
)
def test_keys_must_fit(values: dict[str, object], sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        merge([Layer("flag", values)], "x")
    assert sentence in str(caught.value)


def test_aliases_and_hyphens_name_the_same_key() -> None:
    assert merge([Layer("r", {"train-dir": "a"})], "x").config.data_dir == Path("a")
    assert merge([Layer("r", {"batch-size": 7, "micro-batch": "auto"})], "x").config.batch_size == 7
    assert all(target in Config.model_fields for target in ALIASES.values())


def test_a_tilde_is_expanded_without_a_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert merge([Layer("flag", {"output_dir": "~/x", "data_dir": "a~b"})], "x").config.output_dir == Path("/home/me/x")


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_is_valid_and_documented(name: str) -> None:
    assert resolve(name, {}).recipe == name
    path = recipe_root() / ("config.yaml" if name == "standard" else f"configs/{name}.yaml")
    header = [line for line in path.read_text().split("\n") if line.startswith("#")]
    text = "\n".join(header)
    assert f"# {name}:" in header[0]
    assert all(word in text for word in ("command", "time", "accuracy"))


def test_the_named_recipes_match_their_names() -> None:
    standard, record, paper = (resolve(name, {}).config for name in ("standard", "record", "paper"))
    assert (standard.depth, standard.widen_factor, standard.epochs, standard.batch_size) == (28, 10, 100, 256)
    assert standard.crop_padding == 4
    assert (record.epochs, record.sam_rho > 0, record.ema_decay > 0) == (200, True, True)
    assert (paper.epochs, paper.milestones, paper.lr_decay, paper.dropout) == (200, "60 120 160", 0.2, 0.3)


def test_a_recipe_file_may_be_anywhere(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("lr: 0.05\nmilestones: [30, 60]\nresolutions: ['16:0.5', '32:0.5']\nschedule: step\n")
    resolved = resolve(str(path), {"epochs": "90"})
    assert (resolved.config.lr, resolved.config.milestones, resolved.recipe) == (0.05, "30 60", "mine")
    assert resolved.config.resolutions == "16:0.5 32:0.5"


@pytest.mark.parametrize(
    ("recipe", "sentence"),
    [
        ("quikstart", 'recipe: "quikstart" is not known; did you mean quickstart?'),
        ("nowhere.yaml", "there is no file nowhere.yaml; give an existing YAML file"),
        ("record.yaml", "there is no file record.yaml; did you mean --recipe record?"),
        ("mine/standart.yml", "there is no file mine/standart.yml; did you mean --recipe standard?"),
    ],
)
def test_unknown_recipes(recipe: str, sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        resolve(recipe, {})
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [("a: [", "is not valid YAML"), ("- 1", "must hold"), ("just text", "must hold"), ("\x00", "is not valid YAML")],
)
def test_unreadable_recipe_files(tmp_path: Path, text: str, sentence: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=sentence):
        resolve(str(path), {})


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("lr: 1e-3", "lr", 1e-3),
        ("epochs: 010", "epochs", 10),
        ("seed: 1_000", "seed", 1000),
        ("amp: no", "amp", False),
        ("tta: on", "tta", True),
        ("compile: graphs", "compile", "graphs"),
        ("resume: no", "resume", "no"),
        ("milestones: 60", "milestones", "60"),
        ("output_dir: 2026", "output_dir", Path("2026")),
        ("output_dir: ~", "output_dir", None),
        ("output_dir: ''", "output_dir", None),
        ("output_dir: None", "output_dir", None),
        ("\ufefflr: 0.2\r\nepochs: 9\r\n", "epochs", 9),
        ("", "lr", 0.1),
    ],
)
def test_a_value_in_a_file_means_the_same_as_in_a_flag(text: str, key: str, value: object, tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(text, encoding="utf-8", newline="")
    found = getattr(resolve(str(tmp_path / "r.yaml"), {}).config, key)
    assert (found, type(found)) == (value, type(Path("x")) if isinstance(value, Path) else type(value))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("epochs: true", "epochs (r.yaml): 'true' is not allowed; input should be a valid integer"),
        ("epochs: 1.5", "epochs (r.yaml): '1.5' is not allowed; input should be a valid integer"),
        ("epochs: 2026-01-01", "epochs (r.yaml): '2026-01-01' is not allowed; input should be a valid integer"),
        ("budget_minutes: 1:30", "budget_minutes (r.yaml): '1:30' is not allowed; input should be a valid number"),
        ("augment: no", "augment (r.yaml): 'no' is not allowed; input should be 'none', 'randaugment', "),
        ("amp: maybe", "amp (r.yaml): 'maybe' is not allowed; input should be true or false"),
        ("resolutions: 20:30", "resolutions (r.yaml): '20:30' is not allowed; \"20:30\": the share must be above 0"),
        ("output_dir: [a]", "output_dir (r.yaml): ['a'] is not allowed; input is not a valid path"),
        ("lr:", "lr (r.yaml): None is not allowed; input should be a valid number"),
        ("LR: 1", "LR (r.yaml): is not a key of the configuration; did you mean lr?"),
        ("lr 0.1", "/r.yaml: must hold \"key: value\" lines, but holds 'lr 0.1'"),
        ("lr:\t0.1", "/r.yaml, line 1: is not valid YAML (a tab; YAML needs spaces); fix that line"),
        (f"seed: {'9' * 5000}", f"seed (r.yaml): '{'9' * 89}... (5002 characters) is not allowed; "),
    ],
)
def test_wrong_values_of_a_file(text: str, sentence: str, tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        resolve(str(tmp_path / "r.yaml"), {})
    assert str(caught.value).removeprefix(str(tmp_path)).startswith(sentence)


@given(st.dictionaries(st.sampled_from(sorted(Config.model_fields)), st.from_regex(r"[ -~]{0,12}", fullmatch=True)))
def test_any_flags_give_a_configuration_or_one_sentence_per_key(flags: dict[str, str]) -> None:
    try:
        merge([Layer("flag", flags)], "x")
    except ConfigError as error:
        lines = str(error).split("\n")
        assert all(re.match(r"\w+( \(flag\))?: ", line) for line in lines)


@given(st.text(max_size=60))
def test_any_file_gives_a_layer_or_a_sentence(text: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "r.yaml")
        path.write_text(text, encoding="utf-8", errors="replace", newline="")
        with suppress(ConfigError):
            read_layer(path, "r.yaml")


def test_a_recipe_file_without_a_suffix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").write_text("lr: 0.1")
    with pytest.raises(ConfigError, match='"mine" is not known; a file name must end in'):
        resolve("mine", {})


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "epochs: 3\nlr: 0.1\nepochs: 4\n",
            r"line 3: is not valid YAML \(epochs is set twice\); fix that line",
        ),
        ("data-dir: /x\ndata_dir: /y\n", r"line 2: .*data_dir is set twice"),
        ("[" * 3000, "is nested too deeply|not valid YAML"),
    ],
)
def test_duplicate_keys_are_refused(text: str, sentence: str, tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(text)
    with pytest.raises(ConfigError, match=sentence):
        resolve(str(tmp_path / "r.yaml"), {})


def test_a_wrong_recipe_and_wrong_flags_are_reported_together() -> None:
    with pytest.raises(ConfigError) as caught:
        resolve("quikstart", {"lr": "abc"})
    first, second = str(caught.value).split("\n")
    assert "did you mean quickstart?" in first
    assert second.startswith("lr (flag): 'abc'")
    with pytest.raises(ConfigError, match='recipe: "" is not known'):
        resolve("", {})


def test_conflicting_keys_are_reported_together_with_wrong_ones() -> None:
    with pytest.raises(ConfigError) as caught:
        resolve(
            None,
            {
                **{"widen_factor": "wide", "target_accuracy": "0.9", "val_fraction": "0", "schedule": "step"},
                **{"milestones": "", "warmup_epochs": "200", "epochs": "100"},
            },
        )
    lines = str(caught.value).split("\n")
    assert [line.partition(":")[0] for line in lines] == [
        "widen_factor (flag)",
        "warmup_epochs",
        "milestones",
        "target_accuracy",
    ]


@pytest.mark.parametrize(
    ("flags", "about"),
    [
        ({"lr": "high", "min_lr": "0.5"}, "lr (flag)"),
        ({"epochs": "many", "warmup_epochs": "200"}, "epochs (flag)"),
        ({"milestones": "never", "schedule": "step"}, "milestones (flag)"),
        ({"val_fraction": "2", "target_accuracy": "0.9"}, "val_fraction (flag)"),
        ({"momentum": "-1", "nesterov": "true"}, "momentum (flag)"),
        ({"optimizer": "adam", "zero_init_residual": "true"}, "optimizer (flag)"),
        ({"batch_size": "0", "micro_batch": "512"}, "batch_size (flag)"),
    ],
)
def test_conflicts_with_a_wrong_key_are_not_guessed(flags: dict[str, str], about: str) -> None:
    with pytest.raises(ConfigError) as caught:
        resolve(None, flags)
    (line,) = str(caught.value).split("\n")
    assert line.startswith(about)


@pytest.mark.parametrize(
    "keys",
    [
        {"min_lr": 0.2, "lr": 0.1},
        {"warmup_epochs": 9, "epochs": 5},
        {"milestones": "", "schedule": "step"},
        {"target_accuracy": 0.9, "val_fraction": 0},
        {"nesterov": True, "momentum": 0},
        {"zero_init_residual": True, "optimizer": "muon"},
        {"micro_batch": 20, "batch_size": 10},
    ],
)
def test_each_sentence_names_all_the_keys_it_concerns(keys: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="Value error") as caught:
        Config(**({"warmup_epochs": 0} | keys))
    assert all(re.search(rf"\b{key}\b", str(caught.value)) for key in keys)


def test_a_shipped_recipe_is_found_by_its_path_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert resolve("configs/quickstart.yaml", {}).config == resolve("quickstart", {}).config
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs/quickstart.yaml").write_text("lr: 0.123")
    assert resolve("configs/quickstart.yaml", {}).config.lr == 0.123  # the user's own file comes first


@pytest.mark.parametrize("key", ["ema_decay", "momentum", "label_smoothing", "dropout"])
def test_a_fraction_that_leaves_nothing_is_refused(key: str) -> None:
    with pytest.raises(ConfigError, match=f"{key} .flag.: '1' is not allowed; input should be less than 1"):
        resolve(None, {key: "1"})
