from __future__ import annotations

import json
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


def test_unknown_flags_and_bad_values_come_together() -> None:
    with pytest.raises(ConfigError) as caught:
        parse("--epocs", "3", "--lr", "-0.1", "--depht=16")
    text = str(caught.value)
    assert "--epocs: is not a known flag; did you mean --epochs?" in text
    assert "--depht: is not a known flag; did you mean --depth?" in text
    assert "lr (flag): '-0.1' is not allowed" in text


def test_a_misspelt_negative_is_not_answered_with_its_opposite() -> None:
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
    with pytest.raises(ConfigError, match='"cifar100": stands alone'):
        parse("cifar100")


@given(st.text())
def test_json_quotes_are_taken_off(text: str) -> None:
    assert plain(json.dumps(text)) == text
    assert plain(f"  {json.dumps(text)} ") == text


@given(st.text())
def test_text_without_quotes_is_only_stripped(text: str) -> None:
    if not text.strip().startswith('"'):
        assert plain(text) == text.strip()
