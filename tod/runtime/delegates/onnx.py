"""A graph in onnxruntime, by any of its execution providers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tod.errors import DeviceError, first_line
from tod.format.arrays import Arrays
from tod.runtime.delegates.runner import Detail
from tod.runtime.engine import CPU, open_session, runtime_version

# onnxruntime's words for the types of tensors.
_DTYPES = {
    "tensor(float)": "f4", "tensor(float16)": "f2", "tensor(double)": "f8",
    "tensor(int8)": "i1", "tensor(uint8)": "u1", "tensor(int16)": "i2", "tensor(uint16)": "u2",
    "tensor(int32)": "i4", "tensor(int64)": "i8", "tensor(bool)": "?",
}  # fmt: skip


class OnnxRunner:
    """See `Runner`.

    Args:
        data: the ONNX file.
        name: for messages.
        threads: for one run.
        provider: onnxruntime's name of the execution provider.
        bf16: multiply matrices of float32 in bf16, where the processor can.

    Raises:
        DeviceError: it cannot be loaded here.
    """

    def __init__(
        self, data: bytes, name: str, threads: int, provider: str, *, bf16: bool = False
    ) -> None:
        self._name = name
        self._session = open_session(data, name, threads, provider=provider, bf16=bf16)
        self.library = f"onnxruntime {runtime_version()}"
        self.library += "" if provider == CPU else f" {provider}"
        self.library += " bf16" if bf16 else ""
        self.inputs = tuple(_detail(value, name) for value in self._session.get_inputs())
        self.outputs = tuple(_detail(value, name) for value in self._session.get_outputs())

    def run(self, feeds: Arrays) -> dict[str, NDArray[Any]]:
        try:
            found = self._session.run(None, feeds)
        except Exception as error:  # onnxruntime's errors share no base class but this
            raise DeviceError(f"{self._name} failed in onnxruntime: {first_line(error)}") from error
        # onnxruntime gives a 0-d output back as a number.
        return {d.name: np.asarray(value) for d, value in zip(self.outputs, found, strict=True)}


def _detail(value: Any, where: str) -> Detail:
    if value.type not in _DTYPES:
        raise DeviceError(
            f"{where}: {value.name} is of the type {value.type}, which NumPy has no word for",
            hint="only inputs and outputs that are arrays of numbers can be used here",
        )
    shape = tuple(side if isinstance(side, int) and side >= 0 else -1 for side in value.shape)
    return Detail(value.name, shape, np.dtype(_DTYPES[value.type]))
