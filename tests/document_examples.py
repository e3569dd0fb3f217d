"""The examples of the closed tool chain's document, as it writes them, and its programs as ours."""

from __future__ import annotations

import shlex

PROGRAMS = {
    "compile/glm2_6b_dyn.py": "compile",
    "compile/combine.py": "combine",
    "infer/demo_ngf_bf16.py": "infer",
}
MODEL = "path-to/chatglm2-6b-onnx"
COMPILE = (
    "python3 compile/glm2_6b_dyn.py --model-path path-to/chatglm2-6b-onnx/model.onnx --target-path . "
    "--static-batch-size 1 --pre-len 256 --export-name glm2_6b2048_48M",
    "python3 compile/glm2_6b_dyn.py --model-path path-to/chatglm2-6b-onnx/model.onnx --target-path . "
    "--static-batch-size 1 --pre-len 1024  --export-name glm2_6b2048_48M",
    "python3 compile/glm2_6b_dyn.py --model-path path-to/chatglm2-6b-onnx/model.onnx --target-path . "
    "--static-batch-size 8 --pre-len 256  --export-name glm2_6b2048_48M",
    "python3 compile/glm2_6b_dyn.py --model-path path-to/chatglm2-6b-onnx/model.onnx --target-path . "
    "--static-batch-size 1 --pre-len 2048  --export-name glm2_6b8192_48M --total-len 8192",
    "python3 compile/glm2_6b_dyn.py --model-path path-to/chatglm2-6b-onnx/model.onnx --target-path . "
    "--static-batch-size 1 --pre-len 256  --export-name glm2_6b32768_48M --total-len 32768",
)
# What each of them makes: the prefill engine's name, prefill and total length, rows. The decode engine's ends in _inc.
COMPILED = (
    ("glm2_6b2048_48M_bf16_q", 256, 2048, 1),
    ("glm2_6b2048_48M_bf16_q_pre1024", 1024, 2048, 1),
    ("glm2_6b2048_48M_b8_bf16_q", 256, 2048, 8),
    ("glm2_6b8192_48M_bf16_q_pre2048", 2048, 8192, 1),
    ("glm2_6b32768_48M_bf16_q", 256, 32768, 1),
)
COMBINE = (
    "python compile/combine.py --ngf-1 path-to/glm2_6b2048_48M_b8_bf16_q.ngf "
    "--ngf-2 path-to/glm2_6b2048_48M_b8_bf16_q_inc.ngf --output path-to/glm2_6b2048_48M_b8_bf16_q_multi.ngf"
)
INFER = (
    "python3 infer/demo_ngf_bf16.py --engine path_to/glm2_6b2048_48M_bf16_q_multi.ngf --base-length 256 "
    "--static-batch-size 1 --question-from 1 --question-index 0 --do-sample --temperature 0.01 --top-p 0.7",
    "python3 infer/demo_ngf_bf16.py --engine path_to/glm2_6b2048_48M_bf16_q_pre1024_multi.ngf --base-length 1024 "
    "--static-batch-size 1 --question-from 1 --question-index 1 --do-sample --temperature 0.01 --top-p 0.7",
    "python3 infer/demo_ngf_bf16.py --engine path_to/glm2_6b2048_48M_b8_bf16_q_multi.ngf --base-length 256 "
    "--static-batch-size 8 --question-from 1 --do-sample --temperature 0.01 --top-p 0.7",
    "python3 infer/demo_ngf_bf16.py --engine path_to/glm2_6b8192_48M_bf16_q_pre2048_multi.ngf --base-length 2048 "
    "--static-batch-size 1 --question-from 1 --question-index 0 --total-len 8192 --max-new-tokens 4096 "
    "--constant-output True --do-sample --temperature 0.01 --top-p 0.7",
    "python3 infer/demo_ngf_bf16.py --engine path_to/glm2_6b2048_48M_bf16_q_multi.ngf --base-length 256 "
    "--static-batch-size 1 --question-from 1 --question-index 0 --max-new-tokens 4096 --constant-output True "
    "--do-sample --temperature 0.01 --top-p 0.7",
)
# What an inference prints at its end.
BLOCK = (
    r"={44}\nbase infer time: \d+\.\d{6} \(s\)\nbase throughput: \d+\.\d{3} \(tokens/s\)\n"
    r"incremental infer time: \d+\.\d{6} \(s\)\nincremental throughput: \d+\.\d{3} \(tokens/s\)\n"
    r"infer time: \d+\.\d{6} \(s\)\ninfer tokens: \d+\naverage throughput: \d+\.\d{3} \(tokens/s\)\n={44}\n"
    r"prompt tokens/s: \d+\.\d{3}\ndecode tokens/s: \d+\.\d{3}\n$"
)


def ours(line: str) -> list[str]:
    """A line's command of glmcore and its arguments."""
    _, program, *arguments = shlex.split(line)
    return [PROGRAMS[program], *arguments]


def combining(name: str) -> str:
    """The line that combines the two engines of a name, as the document combines one pair."""
    return COMBINE.replace("glm2_6b2048_48M_b8_bf16_q", name)
