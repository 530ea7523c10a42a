from __future__ import annotations

import json
from typing import Any

import pytest

from wrn.strict_json import to_json, with_printable_text, without_nan


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_what_no_other_parser_reads_is_never_written(number: float) -> None:
    for value in (number, [number], {"a": {"b": number}}):
        with pytest.raises(ValueError, match="not JSON compliant"):
            to_json(value)
        assert "null" in to_json(without_nan(value))


@pytest.mark.parametrize("value", [{"a": [1, 2.5, None, True, "NaN"]}, [], "x", 1e308])
def test_anything_else_is_written_as_it_is(value: Any) -> None:
    assert json.loads(to_json(value)) == value
    assert without_nan(value) == value


def test_every_parser_takes_the_names_of_files() -> None:
    names = {"caf\udce9": ["\udcff", "\ud800", "caf\u00e9 \U0001f600"]}
    text = to_json(names)
    assert json.loads(text) == {"caf\\xe9": ["\\xff", "\\ud800", "caf\u00e9 \U0001f600"]}
    assert json.loads(text) == with_printable_text(names)
    json.loads(text)["caf\\xe9"][2].encode()
