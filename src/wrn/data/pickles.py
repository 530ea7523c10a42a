"""Reads the pickles of CIFAR's python version without executing anything.

A pickle is a program that can call any function it names. This reader knows only the four names in the pickle of a
numpy array, and maps each to a plain record instead of numpy's function. Arrays are built from the records' bytes
afterwards. (So bandit's warning about the import, B403, does not apply.)
"""

from __future__ import annotations

import io
import pickle  # nosec B403
from collections.abc import Callable
from typing import Any

import numpy as np

from wrn.errors import DataError

PLAIN_TYPES = ("u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8", "b1")
"""Element types that an array may have: fixed-size numbers."""


class _DtypeRecord:
    """What a pickle says about an element type."""

    def __init__(self, name: str = "", *ignored: Any) -> None:
        self.name = name

    def __setstate__(self, state: Any) -> None:
        self.order = state[1]

    def to_numpy(self) -> np.dtype:
        name = self.name.lstrip("<>|=")
        if name not in PLAIN_TYPES:
            raise ValueError("an array of something other than numbers")
        return np.dtype(getattr(self, "order", "|") + name)


class _ArrayRecord:
    """What a pickle says about an array: shape, element type, bytes."""

    def __init__(self) -> None:
        self.shape: Any = ()
        self.dtype: Any = None
        self.fortran = False
        self.data: Any = b""

    def __setstate__(self, state: Any) -> None:
        _, self.shape, self.dtype, self.fortran, self.data = state

    def to_numpy(self) -> np.ndarray:
        data = self.data.encode("latin1") if isinstance(self.data, str) else bytes(self.data)
        flat = np.frombuffer(data, dtype=self.dtype.to_numpy())
        return flat.reshape(self.shape, order="F") if self.fortran else flat.reshape(self.shape)


def _start_array(*ignored: Any) -> _ArrayRecord:
    return _ArrayRecord()


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Callable[..., Any]:
        if name == "_reconstruct" and module in ("numpy.core.multiarray", "numpy._core.multiarray"):
            return _start_array
        if module == "numpy" and name == "dtype":
            return _DtypeRecord
        if module == "numpy" and name == "ndarray":
            return _start_array
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")


def read_pickle(data: bytes, name: str) -> Any:
    """Lists, dicts, strings, numbers and numpy arrays; Python 2 strings are decoded as latin-1.

    Raises DataError, calling the file `name`, for a damaged pickle or one that holds or calls anything else.
    """
    try:
        return _plain(_Unpickler(io.BytesIO(data), encoding="latin1").load(), {})
    # A damaged pickle can fail in any way, and that is not our bug.
    except Exception as error:
        raise DataError(f"{name}: is not a safe pickle of arrays ({error}); download the data set again") from None


def _plain(value: Any, done: dict[int, Any]) -> Any:
    """The value with array records converted to arrays. Raises ValueError for any other kind of object.

    done: results by the identity of their source, as a pickle of a few bytes can nest references to one list
    exponentially.
    """
    if value is None or isinstance(value, (str, bytes, int, float)):
        return value
    if id(value) not in done:
        done[id(value)] = _plain_container(value, done)
    return done[id(value)]


def _plain_container(value: Any, done: dict[int, Any]) -> Any:
    if isinstance(value, _ArrayRecord):
        return value.to_numpy()
    if isinstance(value, dict):
        return {_plain(key, done): _plain(item, done) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item, done) for item in value]
    raise ValueError(f"it holds a {type(value).__name__}")
