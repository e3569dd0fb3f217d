"""glmcore compile: a model of known lengths as compiled graphs, in the words of the brief's tool chain or in ours."""

from __future__ import annotations

import sys
import time
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import click

from glmcore.cli.options import TRUTHS, Truth
from glmcore.cli.terminal import say
from glmcore.errors import GlmError
from glmcore.plan import NUMBERED, STRATEGIES, format_size

if TYPE_CHECKING:
    from glmcore.compiled.manifest import Manifest
    from glmcore.config import ModelConfig

DTYPES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
ROLES = {"prefill": ("prefill",), "decode": ("decode",), "both": ("prefill", "decode")}
USUAL_PRE_LEN = 256


class Quantisation(click.ParamType):
    """int8, int4 or none; True and False stand for int8 and none, as in the brief."""

    name = "int8|int4|none"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        word = str(value).lower()
        if word in ("int8", "int4", "none"):
            return word
        if word not in TRUTHS:
            self.fail(f"{value!r} is none of {self.name}", param, ctx)
        return "int8" if TRUTHS[word] else "none"


@click.command()
@click.argument("model", metavar="MODEL", required=False)
@click.option("-o", "--output", metavar="DIR", help="The engine's folder. This or --target-path is needed.")
@click.option("--role", type=click.Choice(list(ROLES)), help="[default: both; an engine each with --target-path]")
@click.option(
    "--pre-len", type=int, default=USUAL_PRE_LEN, show_default=True, help="Tokens of a prompt that are read at once."
)
@click.option("--total-len", type=int, default=2048, show_default=True, help="Tokens of a prompt and its answer.")
@click.option("--static-batch-size", type=click.IntRange(1), help="Rows of every call. [default: 1]")
@click.option("--any-batch", is_flag=True, help="Graphs that take 1 to 32 rows, in place of --static-batch-size.")
@click.option("--dtype", type=click.Choice(list(DTYPES)), help="Of what is not quantised. [default: as for chat]")
@click.option("--quant", type=Quantisation(), metavar="[int8|int4|none]", help="[default: as the checkpoint is]")
@click.option("--device", type=click.Choice(["cpu", "cuda"]), help="[default: cpu, or what --plan names]")
@click.option("--plan", "plan_file", metavar="FILE", help="A placement made by glmcore plan.")
@click.option(
    "--split-strategy", "--split-stragety", "strategy", type=click.Choice([*STRATEGIES[:3], *NUMBERED]),
    help="How to share the model over devices. [default: greedy]",
)  # fmt: skip
@click.option("--multi-dev-dram-limit", "limits", metavar="GIB,GIB…", help="Of each device, for example 8,8.")
@click.option("--export-name", metavar="NAME", help="[default: the model's]")
@click.option("--self-contained", is_flag=True, help="All weights inside the engine's folder.")
@click.option("--golden", is_flag=True, help="A graph more, that tells every layer's states, and a reference call.")
@click.option("--random-weights", is_flag=True, help="Take MODEL's configuration alone, for example chatglm2-6b.")
@click.option(
    "--model-path", metavar="PATH", help="The closed tool chain's word for MODEL; of a model.onnx the folder counts."
)
@click.option(
    "--target-path",
    metavar="DIR",
    help="Its word: two engines go there, named by --export-name, in its types: bf16 and int8 where nothing is said.",
)
@click.option("--is-bf16", type=Truth(), metavar="[True|False]", help="Its word: --dtype bf16, or fp16.")
@click.option("--int4", type=Truth(), metavar="[True|False]", help="Its word: --quant int4.")
@click.option("--ngf", type=Truth(), metavar="[True|False]", help="Its word: names end in .ngf (default) or .tar.")
@click.option("--debug", is_flag=True, help="Show the traceback of a failure.")
def compile(
    model: str | None, output: str | None, role: str | None, pre_len: int, total_len: int,
    static_batch_size: int | None, any_batch: bool, dtype: str | None, quant: str | None, device: str | None,
    plan_file: str | None, strategy: str | None, limits: str | None, export_name: str | None, self_contained: bool,
    golden: bool, random_weights: bool, model_path: str | None, target_path: str | None, is_bf16: bool | None,
    int4: bool | None, ngf: bool | None, debug: bool,
) -> None:  # fmt: skip
    """Compile MODEL (a checkpoint folder) into an engine: graphs of known lengths. A run that was stopped goes on."""
    check_places(model, model_path, output, target_path)
    check_together(
        ("--any-batch", any_batch or None, "--static-batch-size", static_batch_size),
        ("--plan", plan_file, "--device", device),
        ("--dtype", dtype, "--is-bf16", is_bf16),
        ("-o", output, "--ngf", ngf),
        ("--role decode", role == "decode" or None, "--golden", golden or None),
    )
    dtype, quant = types_of(dtype, quant, is_bf16, int4, brief=target_path is not None)
    rows, roles = static_batch_size or 1, ROLES[role or "both"]
    places = {Path(output): roles} if output is not None else named_places(
        Path(target_path or "."), export_name or "engine", roles, rows, dtype or "", quant, pre_len, ngf
    )  # fmt: skip
    if golden:
        places = {place: (*each, "golden") if "prefill" in each else each for place, each in places.items()}

    from glmcore.compiled.make import compile_engines
    from glmcore.compiled.request import SYMBOLIC, make_request

    with Source(folder_of(model or model_path or ""), random_weights) as (config, checkpoint):
        check_unquantised(config, quant)
        request = make_request(
            config, name=export_name or "", pre_len=pre_len, total_len=total_len,
            batch=SYMBOLIC if any_batch else (rows, rows), roles=tuple(chain(*places.values())),
            dtype=DTYPES[dtype] if dtype else None, quantize=None if quant == "none" else quant,
            device=device or "cpu", plan=plan_file, strategy=strategy, limits=gibibytes(limits),
            self_contained=self_contained,
        )  # fmt: skip
        made = compile_engines(request, places, checkpoint, Bar(sys.stderr), companions_of(model or model_path or ""))
    for place, manifest in zip(places, made, strict=True):
        say(written(place, manifest))


def check_places(model: str | None, model_path: str | None, output: str | None, target_path: str | None) -> None:
    """Errors: GlmError("usage") where one thing is named twice, or not at all."""
    if (model is None) == (model_path is None):
        raise GlmError("usage", "one model is compiled", hint="give its folder as MODEL, or as --model-path")
    if (output is None) == (target_path is None):
        raise GlmError("usage", "an engine has one place", hint="give -o DIR, or --target-path with --export-name")


def check_together(*pairs: tuple[str, object, str, object]) -> None:
    """Errors: GlmError("usage") for two options of a pair that were both given."""
    for one, first, other, second in pairs:
        if first is not None and second is not None:
            raise GlmError("usage", f"{one} and {other} do not go together", hint="leave one of them away")


def check_unquantised(config: ModelConfig, quant: str | None) -> None:
    """Errors: GlmError("usage") where a quantised checkpoint is to be compiled as if it were none."""
    if quant == "none" and config.quantization_bit:
        what = f"--quant none asks for {config.name} unquantised, and it is quantised to int{config.quantization_bit}"
        raise GlmError("usage", what, hint="leave --quant away, or compile the original checkpoint")


def types_of(
    dtype: str | None, quant: str | None, is_bf16: bool | None, int4: bool | None, *, brief: bool
) -> tuple[str | None, str | None]:
    """What --dtype and --quant would say; ``brief``: it is asked in the brief's form, which has its own defaults."""
    dtype = dtype or {True: "bf16", False: "fp16", None: None}[is_bf16]
    quant = "int4" if int4 else quant
    return (dtype or "bf16", quant or "int8") if brief else (dtype, quant)


def named_places(
    folder: Path, name: str, roles: tuple[str, ...], batch: int, dtype: str, quant: str | None, pre_len: int,
    ngf: bool | None,
) -> dict[Path, tuple[str, ...]]:  # fmt: skip
    """The engines of the brief's form, and the role of each: NAME_b8_bf16_q_pre1024.ngf reads prompts, NAME_…_inc.ngf
    answers.

    As in its examples, one row and 256 tokens have no part of their own in the name; int4 is _q4.
    """
    parts = [
        name,
        *([f"b{batch}"] if batch > 1 else []),
        dtype,
        *{"int8": ["q"], "int4": ["q4"]}.get(quant or "", []),
        *([f"pre{pre_len}"] if pre_len != USUAL_PRE_LEN else []),
    ]
    suffix = "tar" if ngf is False else "ngf"
    names = {"prefill": "_".join(parts), "decode": "_".join([*parts, "inc"])}
    return {folder / f"{names[role]}.{suffix}": (role,) for role in roles}


def folder_of(model: str) -> str:
    """MODEL itself; of the brief's model.onnx the folder, which holds the checkpoint that is read here."""
    path = Path(model)
    return str(path.parent) if path.suffix == ".onnx" else model


def gibibytes(written: str | None) -> tuple[float, ...]:
    """GiB of each device of "8,8". Errors: GlmError("usage")."""
    try:
        found = tuple(float(part) for part in (written or "").split(",") if written)
    except ValueError:
        found = (0.0,)
    if not all(0 < size < 1 << 20 for size in found):
        raise GlmError("usage", f"{written!r} are no limits", where="--multi-dev-dram-limit", hint="GiB, such as 8,8")
    return found


def companions_of(model: str) -> Path | None:
    """The folder whose tokenizer goes along with random weights, too; None where MODEL is a name."""
    folder = Path(folder_of(model)).expanduser()
    return folder if folder.is_dir() else None


class Source:
    """A model to be compiled: its configuration and its opened checkpoint; no checkpoint for random weights."""

    def __init__(self, model: str, random_weights: bool) -> None:
        self.model, self.random = model, random_weights

    def __enter__(self):
        from glmcore.checkpoint import open_checkpoint
        from glmcore.checkpoint.locate import find_folder
        from glmcore.config import find_config

        self.checkpoint = None if self.random else open_checkpoint(find_folder(self.model))
        return (find_config(self.model) if self.checkpoint is None else self.checkpoint.config), self.checkpoint

    def __exit__(self, *_: object) -> None:
        if self.checkpoint is not None:
            self.checkpoint.close()


class Bar:
    """What is being done and how far all is: a bar on a terminal, a line for each step elsewhere."""

    WIDTH = 30

    def __init__(self, stream) -> None:
        self.stream, self.started, self.terminal = stream, time.monotonic(), stream.isatty()

    def __call__(self, label: str, done: int, total: int) -> None:
        took = time.monotonic() - self.started
        if self.terminal:
            filled = round(self.WIDTH * done / total)
            bar = "#" * filled + "." * (self.WIDTH - filled)
            self.stream.write("\r\033[K" + (f"[{bar}] {took:.0f} s, {label}" if label else ""))
        elif label:
            self.stream.write(f"{label} ({done + 1} of {total})\n")
        self.stream.flush()


def written(folder: Path, manifest: Manifest) -> str:
    """What has been made, for people."""
    from glmcore.compiled.manifest import ARCHIVE

    lengths = ", ".join(f"{role} {'/'.join(map(str, manifest.lengths(role)))}" for role in manifest.roles)
    rows = "-".join(map(str, dict.fromkeys(manifest.batch)))
    own = sum(part.size for part in manifest.weights if part.how == "inside")
    mapped = sum(part.size for part in manifest.weights if part.how == "mapped")
    weights = f"{format_size(own)} of weights inside" + (f", {format_size(mapped)} mapped" if mapped else "")
    return (
        f"wrote {folder}: {lengths}, total {manifest.total_len}, rows {rows}, "
        f"{manifest.quantize or manifest.dtype}; graphs {format_size(manifest.files[ARCHIVE].size)}, {weights}"
    )
