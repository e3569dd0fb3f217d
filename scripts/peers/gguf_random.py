"""A GGUF file of random weights in llama.cpp's ``chatglm`` architecture. Run by the peers' interpreter.

    python gguf_random.py SHAPE_JSON Q4_0|Q8_0 FILE

The blocks are drawn as they lie in the file, a float16 scale before its 32 numbers, so that no float matrix is ever
made and the memory needed is that of the largest tensor. There is no vocabulary: tokens go in and come out as numbers.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFWriter

BLOCK_SCALE = 0.004  # about what weights of standard deviation 0.02 have in 4 bits
DRAWN = 1 << 16  # blocks that are really drawn; larger tensors repeat them


def tensor_shapes(shape: dict[str, int]) -> dict[str, tuple[int, ...]]:
    """Name → (rows, columns) of every matrix, (length,) of every float vector."""
    hidden, ffn, vocab = shape["hidden"], shape["ffn"], shape["vocab"]
    qkv = hidden + 2 * shape["kv_heads"] * shape["head_dim"]
    layer = {
        "attn_norm.weight": (hidden,),
        "attn_qkv.weight": (qkv, hidden),
        "attn_qkv.bias": (qkv,),
        "attn_output.weight": (hidden, hidden),
        "ffn_norm.weight": (hidden,),
        "ffn_up.weight": (2 * ffn, hidden),
        "ffn_down.weight": (hidden, ffn),
    }
    layers = {f"blk.{i}.{name}": size for i in range(shape["layers"]) for name, size in layer.items()}
    return {
        "token_embd.weight": (vocab, hidden),
        **layers,
        "output_norm.weight": (hidden,),
        "output.weight": (vocab, hidden),
    }


def blocks(kind: GGMLQuantizationType, seed: int = 0) -> np.ndarray:
    """Random blocks, [DRAWN, bytes]: two bytes of scale, then the numbers."""
    size = GGML_QUANT_SIZES[kind][1]
    drawn = np.random.default_rng(seed).integers(0, 256, (DRAWN, size), dtype=np.uint8)
    levels = 16 if kind == GGMLQuantizationType.Q4_0 else 256
    drawn[:, :2] = np.frombuffer(np.float16(BLOCK_SCALE * 16 / levels).tobytes(), dtype=np.uint8)
    return drawn


def write(shape: dict[str, int], kind: GGMLQuantizationType, path: Path) -> None:
    writer = GGUFWriter(path, "chatglm")
    writer.add_block_count(shape["layers"])
    writer.add_context_length(shape["context"])
    writer.add_embedding_length(shape["hidden"])
    writer.add_feed_forward_length(shape["ffn"])
    writer.add_head_count(shape["heads"])
    writer.add_head_count_kv(shape["kv_heads"])
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(shape["head_dim"] // 2)
    writer.add_vocab_size(shape["vocab"])
    writer.add_tokenizer_model("no_vocab")
    per_block, block_bytes = GGML_QUANT_SIZES[kind]
    sizes = tensor_shapes(shape)
    for name, size in sizes.items():
        if len(size) == 2:
            stored = (size[0], size[1] // per_block * block_bytes)
            writer.add_tensor_info(name, stored, np.dtype(np.uint8), stored[0] * stored[1], raw_dtype=kind)
        else:
            writer.add_tensor_info(name, size, np.dtype(np.float32), 4 * size[0])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    drawn = blocks(kind)
    for name, size in sizes.items():
        if len(size) == 2:
            writer.write_tensor_data(np.resize(drawn, (size[0] * size[1] // per_block, block_bytes)))
        else:
            writer.write_tensor_data(np.full(size, float(name.endswith("norm.weight")), dtype=np.float32))
    writer.close()


def main() -> None:
    shape, kind, path = json.loads(sys.argv[1]), GGMLQuantizationType[sys.argv[2]], Path(sys.argv[3])
    partial = path.with_suffix(".partial")
    write(shape, kind, partial)
    partial.rename(path)


if __name__ == "__main__":
    main()
