"""What config.json says of the model, by itself and beside the shapes that the files' headers give."""

from __future__ import annotations

from collections.abc import Iterator

from glmcore.config import ModelConfig
from glmcore.errors import GlmError
from glmdoctor.checks.base import Check, Machine, bad, known, ok, skipped, unknown
from glmdoctor.findings import Finding, Status
from glmdoctor.host.facts import Checkpoint, Tensor
from glmdoctor.messages import text
from glmdoctor.readings.checkpoint import TENSORS, TRAINING, WEIGHTS

CONFIG = text("Configuration of the model")
SHAPES = text("Configuration beside the weights")
# ChatGLM-6B came with two vocabularies; the ids of one do not exist in the other.
VOCABULARIES = {150528: range(150000, 150010), 130528: range(130000, 130010)}


def config(host: Machine) -> Iterator[Finding]:
    checkpoint = known(host.checkpoint)
    if not checkpoint.config:
        yield skipped(CONFIG, text("There is no readable config.json."))
    elif checkpoint.generation is None:
        yield unknown(
            CONFIG,
            text(
                "config.json is of type '{type}', not one of the ChatGLM family.",
                type=checkpoint.config.get("model_type"),
            ),
            model_type=str(checkpoint.config.get("model_type")),
        )
    elif stray := _ids_outside(checkpoint):
        yield _of_another_date(checkpoint, stray)
    elif fault := _config_fault(checkpoint):
        yield bad(
            Status.FAIL,
            "config-weights-mismatch",
            text("config.json holds a value that no model has"),
            text("In {folder}: {fault}.", folder=checkpoint.path, fault=fault),
        )
    else:
        bits = checkpoint.quantization_bit
        yield ok(
            CONFIG,
            text("Generation {generation}, quantised to {bits} bits.", generation=checkpoint.generation, bits=bits)
            if bits
            else text("Generation {generation}, not quantised.", generation=checkpoint.generation),
            generation=checkpoint.generation,
            quantization_bit=bits,
        )


def _of_another_date(checkpoint: Checkpoint, ids: dict[str, object]) -> Finding:
    size = checkpoint.config.get("vocab_size")
    return bad(
        Status.FAIL,
        "token-ids-mismatch",
        text("Token ids and vocabulary are of different dates"),
        text(
            "The vocabulary has {size} entries, but {ids}.",
            size=size,
            ids=", ".join(f"{name} = {value}" for name, value in ids.items()),
        ),
        vocab_size=size,
        **ids,
    )


def _config_fault(checkpoint: Checkpoint) -> str | None:
    """What glmcore says of a value in config.json, None where it takes them all."""
    try:
        ModelConfig.from_dict(checkpoint.config)
    except GlmError as error:
        return error.what
    return None


def _ids_outside(checkpoint: Checkpoint) -> dict[str, object]:
    """Special ids of ChatGLM-6B that do not belong to the vocabulary's date."""
    size = checkpoint.config.get("vocab_size")
    if checkpoint.generation != "v1" or not isinstance(size, int) or size not in VOCABULARIES:
        return {}
    names = ("bos_token_id", "eos_token_id", "gmask_token_id", "mask_token_id")
    ids = {name: checkpoint.config[name] for name in names if name in checkpoint.config}
    return {name: value for name, value in ids.items() if value not in VOCABULARIES[size]}


def fits(host: Machine) -> Iterator[Finding]:
    """The configuration beside the shapes that the files' headers give."""
    checkpoint = known(host.checkpoint)
    wrong = list(_differences(checkpoint)) or ([checkpoint.misfit] if checkpoint.misfit else [])
    if not wrong and not (checkpoint.tensors and checkpoint.config):
        yield skipped(SHAPES, text("There are no weights or no config.json to compare."))
    elif wrong:
        yield bad(
            Status.FAIL,
            "config-weights-mismatch",
            text("config.json does not fit the weights"),
            text("In {folder}: {differences}.", folder=checkpoint.path, differences="; ".join(wrong)),
            differences=wrong,
        )
    else:
        yield ok(SHAPES, text("{count} tensors compared; they agree.", count=len(checkpoint.tensors)))


def _differences(checkpoint: Checkpoint) -> Iterator[str]:
    config, bits = checkpoint.config, checkpoint.quantization_bit or 0
    layers = {tensor.name for tensor in checkpoint.tensors if ".layers." in tensor.name}
    # A shard that is gone, damaged or something else tells of no layers; that is said elsewhere.
    shards = [file for file in checkpoint.files if file.name.endswith(WEIGHTS) and not TRAINING.match(file.name)]
    complete = all(file.kind in TENSORS and not file.fault for file in shards)
    wanted = config.get("num_layers", config.get("num_hidden_layers"))
    if layers and complete and wanted not in (None, len(layers)):
        yield f"num_layers {wanted}, {len(layers)} layers in the files"
    widths = ("ffn_hidden_size", "inner_hidden_size", "intermediate_size")
    inner = next((config[key] for key in widths if key in config), None)
    hidden = config.get("hidden_size")
    vocabulary = config.get("padded_vocab_size", config.get("vocab_size"))
    for tensor in checkpoint.tensors:
        expected = (hidden, inner) if tensor.name in layers else (vocabulary, hidden)
        difference = _difference(tensor, expected, bits if tensor.name in layers else None)
        if difference:
            yield f"{tensor.name} {difference}"
            return


def _difference(tensor: Tensor, wanted: tuple[object, object], bits: int | None) -> str | None:
    """What is wrong with one matrix. ``bits`` is None where a quantised checkpoint may keep it whole: the embedding."""
    packed = tensor.dtype in ("I8", "U8")
    if bits is not None and packed != bool(bits):
        return f"is of type {tensor.dtype}, quantization_bit is {bits}"
    if len(tensor.shape) != 2 or None in wanted:
        return None
    rows, columns = tensor.shape
    possible = (columns, columns * 2) if packed and bits in (4, None) else (columns,)
    return (
        None if rows == wanted[0] and wanted[1] in possible else f"is {rows} x {columns}, not {wanted[0]} x {wanted[1]}"
    )


CHECKS = (
    Check(
        "model.config",
        CONFIG,
        config,
        problems=("token-ids-mismatch", "config-weights-mismatch"),
        needs=("checkpoint",),
    ),
    Check("model.shapes", SHAPES, fits, problems=("config-weights-mismatch",), needs=("checkpoint",)),
)
