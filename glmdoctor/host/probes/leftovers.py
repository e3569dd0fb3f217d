"""Variables that steer the libraries, and what glmdoctor itself left on this machine."""

from __future__ import annotations

import json

from glmcore.folders import user_folder
from glmdoctor.host.facts import Settings, State, Unknown
from glmdoctor.host.io import IO, READ_LIMIT

# An allow-list: these hold paths, numbers and switches. Nothing else of the environment is kept or shown.
VARIABLES = (
    "BNB_CUDA_VERSION",
    "CC",
    "CUDA_DEVICE_ORDER",
    "CUDA_HOME",
    "CUDA_LAUNCH_BLOCKING",
    "CUDA_MODULE_LOADING",
    "CUDA_PATH",
    "CUDA_VISIBLE_DEVICES",
    "GLMCORE_KERNEL_FILE",
    "HF_DATASETS_OFFLINE",
    "HF_ENDPOINT",
    "HF_HOME",
    "HF_HUB_CACHE",
    "HF_HUB_OFFLINE",
    "HF_MODULES_CACHE",
    "KMP_AFFINITY",
    "LD_LIBRARY_PATH",
    "LD_PRELOAD",
    "LIBRARY_PATH",
    "MKL_NUM_THREADS",
    "NVIDIA_DRIVER_CAPABILITIES",
    "NVIDIA_VISIBLE_DEVICES",
    "OMP_NUM_THREADS",
    "PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION",
    "PYTORCH_CUDA_ALLOC_CONF",
    "PYTORCH_ENABLE_MPS_FALLBACK",
    "PYTORCH_MPS_HIGH_WATERMARK_RATIO",
    "TORCH_CUDA_ARCH_LIST",
    "TRANSFORMERS_CACHE",
    "TRANSFORMERS_OFFLINE",
)


def settings(io: IO) -> Settings:
    env = io.env()
    return Settings({name: env[name] for name in VARIABLES if name in env})


def state(io: IO) -> State | Unknown:
    """The private CUDA_PATH folder and the runs of the journal, by the last record of each."""
    data, kept = user_folder("data", "glmdoctor"), user_folder("state", "glmdoctor")
    if data is None or kept is None:
        return Unknown("this user has no home folder")
    private, runs = f"{data}/cuda", f"{kept}/runs"
    ends = {
        name.removesuffix(".jsonl"): _end(io, f"{runs}/{name}") for name in io.names(runs) if name.endswith(".jsonl")
    }
    return State(
        private_cuda=private if io.is_folder(f"{private}/lib64") else None,
        open_runs=tuple(run for run, end in ends.items() if end not in ("finished", "closed")),
        done_runs=tuple(run for run, end in ends.items() if end == "finished"),
    )


def _tail(io: IO, path: str) -> bytes:
    """The end of a file; what it begins with is a piece of a line. A run's last record is short."""
    try:
        with io.open(path) as file:
            file.seek(max(0, io.stat(path).st_size - READ_LIMIT))
            return file.read(READ_LIMIT)
    except OSError:
        return b""


def _end(io: IO, path: str) -> str:
    """The kind of the last whole record of a run's file."""
    for line in reversed(_tail(io, path).splitlines()):
        try:
            return str(json.loads(line)["record"])
        except (ValueError, KeyError, TypeError, RecursionError):  # an empty line, or one that a crash has cut
            continue
    return ""
