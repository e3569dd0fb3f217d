"""onnxruntime's MatMulNBits (4 bits, blocks of 128, int8 activations: accuracy_level 4) at the layers' shapes."""

from __future__ import annotations

import layers
import numpy as np
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper


def model(rows: int, columns: int, copies: int, seed: int) -> bytes:
    rng = np.random.default_rng(seed)
    groups = columns // layers.GROUP
    scale = np.full(rows * groups, 0.004, dtype=np.float32)
    nodes, weights, outputs = [], [numpy_helper.from_array(scale, "scale")], []
    for i in range(copies):
        nibbles = rng.integers(0, 256, (rows, groups, layers.GROUP // 2), dtype=np.uint8)
        weights.append(numpy_helper.from_array(nibbles, f"b{i}"))
        nodes.append(
            helper.make_node("MatMulNBits", ["x", f"b{i}", "scale"], [f"y{i}"], domain="com.microsoft", K=columns,
                             N=rows, bits=4, block_size=layers.GROUP, accuracy_level=4)
        )  # fmt: skip
        outputs.append(helper.make_tensor_value_info(f"y{i}", TensorProto.FLOAT, [None, rows]))
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, columns])
    graph = helper.make_graph(nodes, "layers", [x], outputs, weights)
    sets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=sets, ir_version=9).SerializeToString()


def prepare(threads: int):
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3

    def build(rows: int, columns: int, copies: int, seed: int):
        session = ort.InferenceSession(model(rows, columns, copies, seed), options, ["CPUExecutionProvider"])
        inputs: dict[int, np.ndarray] = {}
        rng = np.random.default_rng(seed)

        def run(length: int) -> None:
            if length not in inputs:
                inputs[length] = rng.standard_normal((length, columns), dtype=np.float32)
            session.run(None, {"x": inputs[length]})

        return run

    return build


if __name__ == "__main__":
    layers.main(prepare)
