"""OpenVINO's int4 weights (a scale per group of 128, activations quantised on the way) at the layers' shapes."""

from __future__ import annotations

import layers
import numpy as np
import openvino as ov
from openvino import opset13 as op


def weight(rows: int, columns: int, packed: np.ndarray) -> ov.Node:
    """[rows, columns] out of signed nibbles and a scale for each group, as OpenVINO recognises compressed weights."""
    shape = [rows, columns // layers.GROUP, layers.GROUP]
    nibbles = ov.Tensor(packed, shape, ov.Type.i4)
    scale = np.full([*shape[:2], 1], 0.004, dtype=np.float16)
    grouped = op.multiply(op.convert(op.constant(nibbles), "f16"), op.constant(scale))
    return op.convert(op.reshape(grouped, [rows, columns], special_zero=False), "f32")


def prepare(threads: int):
    core = ov.Core()
    settings = {
        "INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, "PERFORMANCE_HINT": "LATENCY",
        "DYNAMIC_QUANTIZATION_GROUP_SIZE": layers.GROUP,
    }  # fmt: skip

    def build(rows: int, columns: int, copies: int, seed: int):
        rng = np.random.default_rng(seed)
        x = op.parameter([-1, columns], dtype=np.float32)
        # OpenVINO does not copy the bytes: they live as long as the function below.
        packed = [rng.integers(0, 256, rows * columns // 2, dtype=np.uint8) for _ in range(copies)]
        outputs = [op.matmul(x, weight(rows, columns, one), False, True) for one in packed]
        request = core.compile_model(ov.Model(outputs, [x]), "CPU", settings).create_infer_request()
        inputs: dict[int, ov.Tensor] = {}

        def run(length: int, held: object = packed) -> None:
            if length not in inputs:
                inputs[length] = ov.Tensor(rng.standard_normal((length, columns), dtype=np.float32))
            request.set_input_tensor(inputs[length])
            request.infer()

        return run

    return build


if __name__ == "__main__":
    layers.main(prepare)
