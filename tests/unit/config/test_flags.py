from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wrn.config.flags import Parser, add_config_flags, parse_config, plain
from wrn.config.layers import Resolved
from wrn.config.schema import Config
from wrn.errors import ConfigError


def parse(*arguments: str) -> Resolved:
    parser = Parser(prog="wrn train", allow_abbrev=False)
    add_config_flags(parser)
    return parse_config(parser, arguments)


@pytest.mark.parametrize(
    ("arguments", "key", "value"),
    [
        (["--amp", "true"], "amp", True),
        (["--amp", "True"], "amp", True),
        (["--amp", '"true"'], "amp", True),
        (["--amp", "1"], "amp", True),
        (["--amp"], "amp", True),
        (["--amp", "false"], "amp", False),
        (["--no-amp"], "amp", False),
        (["--lr", "1e-3"], "lr", 1e-3),
        (["--lr=0.2"], "lr", 0.2),
        (["--batch-size", '"256"'], "batch_size", 256),
        (["--batch_size", "32"], "batch_size", 32),
        (["--", "--epochs", "7"], "epochs", 7),
        (["--output-dir", "None"], "output_dir", None),
        (["--resolutions", '""'], "resolutions", ""),
        (["--micro-batch", "64"], "micro_batch", 64),
        (["--no_cpu_kernels"], "cpu_kernels", False),
        (["--compile"], "compile", True),
        (["--compile", "graphs"], "compile", "graphs"),
        (["--no-compile"], "compile", False),
        (["--output-dir", "null"], "output_dir", None),
    ],
)
def test_what_sagemaker_and_people_write(arguments: list[str], key: str, value: Any) -> None:
    assert getattr(parse(*arguments).config, key) == value


@pytest.mark.parametrize("key", sorted(Config.model_fields))
def test_every_key_is_a_flag_in_both_spellings(key: str) -> None:
    default = getattr(Config(), key)
    text = {None: "none", "": '""'}.get(default, str(default)) if not isinstance(default, bool) else str(default)
    for flag in (f"--{key}", f"--{key.replace('_', '-')}"):
        resolved = parse(flag, text)
        assert getattr(resolved.config, key) == default
        assert resolved.origins[key] == "flag"


def test_unknown_flags_and_bad_values_are_reported_together() -> None:
    with pytest.raises(ConfigError) as caught:
        parse("--epocs", "3", "--lr", "-0.1", "--depht=16")
    text = str(caught.value)
    assert "--epocs: is not a known flag; did you mean --epochs?" in text
    assert "--depht: is not a known flag; did you mean --depth?" in text
    assert "lr (flag): '-0.1' is not allowed" in text


def test_a_misspelt_negative_flag_does_not_suggest_its_opposite() -> None:
    with pytest.raises(ConfigError, match=r"--no-ampp: is not a known flag; did you mean --no-amp\?"):
        parse("--no-ampp")


def test_the_value_of_an_unknown_flag_is_never_shown() -> None:
    with pytest.raises(ConfigError) as caught:
        parse("--hub-token=hf_SECRET", "--api-key", "SECRET2")
    assert "SECRET" not in str(caught.value)
    assert "--hub-token" in str(caught.value)


def test_a_flag_without_its_value() -> None:
    with pytest.raises(ConfigError, match="--lr: expected one argument; see wrn train --help"):
        parse("--lr")


def test_a_word_on_its_own() -> None:
    with pytest.raises(ConfigError, match='"cifar100": no flag takes this value'):
        parse("cifar100")


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("--augment", "none|randaugment|trivialaugment|albumentations"),
        ("--micro-batch", "N|auto"),
        ("--compile", "[BOOL|graphs]"),
        ("--amp", "[BOOL]"),
        ("--lr", "X"),
        ("--output-dir", "PATH"),
    ],
)
def test_help_shows_what_a_flag_takes(flag: str, value: str) -> None:
    parser = Parser(prog="wrn train")
    add_config_flags(parser)
    assert re.search(rf"^  {flag} {re.escape(value)}(?:\s|$)", parser.format_help(), re.MULTILINE)


@given(st.text())
def test_json_quotes_are_removed(text: str) -> None:
    assert plain(json.dumps(text)) == text
    assert plain(f"  {json.dumps(text)} ") == text


@given(st.text())
def test_text_without_quotes_is_only_stripped(text: str) -> None:
    if not text.strip().startswith('"'):
        assert plain(text) == text.strip()


def command() -> Parser:
    parser = Parser(prog="wrn some", allow_abbrev=False)
    parser.add_argument("--model-dir", required=True)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--top", type=int)
    parser.add_argument("images", nargs="*")
    return parser


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--model-dri", "x"], "--model-dri: is not a known flag; did you mean --model-dir?"),  # it was required
        (["--model_dir=x"], "--model_dir: is not a known flag; did you mean --model-dir?"),
        (["--MODEL-DIR=x"], "--MODEL-DIR: is not a known flag; did you mean --model-dir?"),
        (["--model-dir", "x", "-top=5"], "-top: is not a known flag; did you mean --top?"),
        (["--hub-token=SECRET"], "--hub-token: is not a known flag; see wrn some --help"),
        (["--model-dir", "x", "--json=SECRET"], "--json: takes no value; see wrn some --help"),
        (["--top"], "--top: expected one argument; see wrn some --help"),
        ([], "the following arguments are required: --model-dir; see wrn some --help"),
    ],
)
def test_every_command_reports_a_mistyped_flag(arguments: list[str], sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        command().parse_args(arguments)
    assert str(caught.value) == sentence


def test_what_looks_like_a_flag_may_be_a_file() -> None:
    assert command().parse_args(["--model-dir", "x", "--", "--odd"]).images == ["--odd"]


def test_a_surplus_argument() -> None:
    parser = Parser(prog="wrn jobs", allow_abbrev=False)
    with pytest.raises(ConfigError, match='"x": no flag takes this value; see wrn jobs --help'):
        parser.parse_args(["x"])
