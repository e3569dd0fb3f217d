"""glmcore info: what a checkpoint is, and what of it fits on this machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from glmcore.checkpoint.locate import find_folder
from glmcore.cli.terminal import say
from glmcore.config import ModelConfig, find_config
from glmcore.errors import GlmError
from glmcore.plan import Device, Precision, format_size, make_plan, pieces


@click.command()
@click.argument("model", metavar="MODEL")
@click.option("--json", "as_json", is_flag=True, help="Sizes in bytes.")
@click.option("--debug", is_flag=True, help="Show the traceback of a failure.")
def info(model: str, as_json: bool, debug: bool) -> None:
    """Say what MODEL (a checkpoint folder or a name such as chatglm2-6b) is, and what of it fits on this machine."""
    from glmcore.machine import present_devices

    folder = folder_of(model)
    config = ModelConfig.from_folder(folder) if folder else find_config(model)
    described = describe(config) | {"fits": fits(config, present_devices())}
    if folder is not None:
        described |= {"folder": str(folder), "checkpoint": on_disk(folder), "tokenizer": tokenizer(folder, config)}
    say(json.dumps(described, ensure_ascii=False, indent=1) if as_json else table(described))
    if folder is not None and described["checkpoint"]["error"]:
        raise SystemExit(1)


def folder_of(model: str) -> Path | None:
    """The checkpoint's folder, or None where ``model`` is the name of a published model without one here."""
    try:
        return find_folder(model)
    except GlmError:
        if Path(model).exists():
            raise
        return None


def describe(config: ModelConfig) -> dict[str, Any]:
    """What config.json says, with its own words for the sizes."""
    kept = Precision.of(config, config.dtype)
    # In float32 every parameter is four bytes; scales count as none.
    parameters = sum(piece.weights for piece in pieces(config, Precision("float32"), "cpu")) // 4
    return {
        "name": config.name,
        "generation": config.generation,
        "parameters": parameters,
        "layers": config.num_layers,
        "hidden_size": config.hidden_size,
        "heads": config.num_heads,
        "kv_heads": config.num_kv_heads,
        "vocabulary": config.vocab_size,
        "context": config.max_length,
        "dtype": config.dtype,
        "quantization": f"int{config.quantization_bit}" if config.quantization_bit else None,
        "quantized_embeddings": bool(config.embedding_bits),
        "weights_bytes": sum(piece.weights for piece in pieces(config, kept, "cpu")),
    }


def on_disk(folder: Path) -> dict[str, Any]:
    """The checked weight files; what is wrong with them where they cannot be used."""
    from glmcore.checkpoint import open_checkpoint

    try:
        with open_checkpoint(folder) as checkpoint:
            return {"tensors": len(checkpoint.names), "bytes": checkpoint.nbytes, "error": None}
    except GlmError as error:
        return {"tensors": 0, "bytes": 0, "error": str(error)}


def tokenizer(folder: Path, config: ModelConfig) -> dict[str, Any]:
    """The tokenizer in the folder; what is wrong with it where it cannot be used."""
    from glmcore.tokenizers import load_tokenizer

    try:
        found = load_tokenizer(folder, config)
    except GlmError as error:
        return {"file": None, "tokens": 0, "error": str(error)}
    return {"file": found.path.name, "tokens": len(found), "error": None}


def fits(config: ModelConfig, devices: list[Device]) -> list[dict[str, Any]]:
    """For each precision that the checkpoint can be loaded in: the weights and the longest context on ``devices``."""
    choices = [config.quantization_bit] if config.quantization_bit else [0, 8, 4]
    found = []
    for bits in choices:
        precision = Precision.of(config, config.dtype, bits)
        made = make_plan(config, devices, precision=precision, context=1)
        weights = sum(piece.weights for piece in pieces(config, precision, "cpu"))
        found.append(
            {"precision": f"int{bits}" if bits else config.dtype, "weights_bytes": weights, "context": made.max_context}
        )
    return found


def table(described: dict[str, Any]) -> str:
    """The same for people."""
    kept = described["quantization"] or described["dtype"]
    embeddings = " with its embeddings" if described["quantized_embeddings"] else ""
    lines = [
        f"{described['name']}: generation {described['generation']}, {described['parameters']:,} parameters",
        f"  shape        {described['layers']} layers of {described['hidden_size']}, {described['heads']} heads, "
        f"{described['kv_heads']} for keys and values, {described['vocabulary']} tokens",
        f"  context      {described['context']} tokens",
        f"  weights      {kept}{embeddings}, {format_size(described['weights_bytes'])}",
    ]
    if "folder" in described:
        files, words = described["checkpoint"], described["tokenizer"]
        weights = files["error"] or f"{files['tensors']} tensors, {format_size(files['bytes'])}"
        lines += [
            f"  checkpoint   {weights}",
            f"  tokenizer    {words['error'] or words['file'] + ', ' + str(words['tokens']) + ' tokens'}",
        ]
    lines.append("  fits here")
    for entry in described["fits"]:
        longest = entry["context"]
        answer = f"with up to {longest} tokens of context" if longest else "no"
        lines.append(f"    {entry['precision']:9} {format_size(entry['weights_bytes']):>9}  {answer}")
    return "\n".join(lines)
