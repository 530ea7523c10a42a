from __future__ import annotations

import contextlib
import datetime
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wrn.data.pickles import read_pickle
from wrn.errors import DataError

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(plain, st.integers(3, 5))
def test_plain_values_come_back(value: Any, protocol: int) -> None:
    assert read_pickle(pickle.dumps(value, protocol=protocol), "x") == value


@pytest.mark.parametrize("dtype", ["u1", "<i4", ">i8", "<f4", "?"])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("protocol", [3, 4])
def test_arrays_come_back(dtype: str, order: Any, protocol: int) -> None:
    array = np.arange(24).reshape(2, 3, 4).astype(dtype, order=order)
    found = read_pickle(pickle.dumps({"a": array, "empty": np.zeros((0, 2), dtype)}, protocol=protocol), "x")
    assert found["a"].dtype == array.dtype
    assert np.array_equal(found["a"], array)
    assert found["empty"].shape == (0, 2)


class Hostile:
    def __init__(self, function: Any, *arguments: Any) -> None:
        self.made_of = function, arguments

    def __reduce__(self) -> Any:
        return self.made_of


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize(
    "value",
    [
        Hostile(os.system, "touch /tmp/wrn-was-here"),
        Hostile(eval, "open('/tmp/wrn-was-here', 'w')"),
        Hostile(getattr, "text", "format"),
        [np.zeros(2), Hostile(os.remove, "/tmp/nothing-of-this-name")],
        datetime.date(2020, 1, 1),
        np.array([1, "a", None], dtype=object),
        np.array(["text"]),
        np.zeros(2, dtype=[("a", "u1")]),
        {1, 2},
        1j,
        np.float64(3.0),
        Hostile,
    ],
    ids=lambda value: type(value).__name__,
)
def test_nothing_but_plain_values_is_built(value: Any, protocol: int) -> None:
    with pytest.raises(DataError, match=r"^meta: is not a safe pickle") as caught:
        read_pickle(pickle.dumps(value, protocol=protocol), "meta")
    assert "\n" not in str(caught.value)
    assert not Path("/tmp/wrn-was-here").exists()


@given(st.data())
def test_any_damage_raises_data_error(data: Any) -> None:
    whole = bytearray(pickle.dumps({"data": np.arange(50, dtype="u1"), "labels": list(range(20))}, protocol=3))
    for place in data.draw(st.lists(st.integers(0, len(whole) - 1), min_size=1, max_size=5)):
        whole[place] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(whole)))
    with contextlib.suppress(DataError):
        read_pickle(bytes(whole[:cut]), "x")


def test_a_list_referenced_many_times_is_converted_once() -> None:
    value: list[Any] = [0]
    for _ in range(200):
        value = [value, value]
    found = read_pickle(pickle.dumps(value, protocol=2), "x")
    assert found[0] is found[1]


def test_a_list_that_holds_itself_is_refused() -> None:
    value: list[Any] = []
    value.append(value)
    with pytest.raises(DataError):
        read_pickle(pickle.dumps(value, protocol=2), "x")


def test_the_records_accept_only_arrays() -> None:
    """The four known names, called with arguments that never occur in a pickle of an array."""
    program = b"cnumpy\ndtype\n(S'os.system'\ntR."
    with pytest.raises(DataError, match="_DtypeRecord"):
        read_pickle(program, "x")
    objects = b"cnumpy.core.multiarray\n_reconstruct\n(tR(I1\n(I2\ntcnumpy\ndtype\n(S'O'\ntRI00\nS'12345678'\ntb."
    with pytest.raises(DataError, match="something other than numbers"):
        read_pickle(objects, "x")


def test_strings_of_python_2_are_latin_1() -> None:
    """As in the official files: bytes in strings and in arrays."""
    name = b"U\x03na\xef"
    dtype = b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    start = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
    array = start + b"(K\x01K\x04\x85" + dtype + b"\x89U\x04\x00\x7f\x80\xfftb"
    found = read_pickle(b"\x80\x02}(" + name + array + b"u.", "x")
    assert list(found) == ["naï"]
    assert found["naï"].tolist() == [0, 127, 128, 255]
