"""Models of the same house that are another architecture: what they are, and who runs them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from glmcore.errors import GlmError, plain

EXPERTS, VISION = "llama.cpp, vLLM or SGLang", "transformers or vLLM"
# By ``model_type``: what it is, and who runs it.
NOT_OURS = {
    "glm4_moe": ("a mixture of experts (GLM-4.5, 4.6 and 4.7)", EXPERTS),
    "glm4_moe_lite": ("a mixture of experts with latent attention (GLM-4.7-Flash)", EXPERTS),
    "glm_moe_dsa": ("a mixture of experts with sparse attention (GLM-5)", EXPERTS),
    "glm5_next": ("a mixture of experts (GLM-5.3-Flash)", EXPERTS),
    "glm4v": ("a vision model (GLM-4.1V, 4.6V-Flash)", VISION),
    "glm4v_moe": ("a vision model with experts (GLM-4.5V, 4.6V)", VISION),
    "glm46v": ("a vision model (GLM-4.6V)", VISION),
    "glm_ocr": ("a vision model (GLM-OCR)", VISION),
    "glmasr": ("a speech model (GLM-ASR)", VISION),
    "glm_image": ("an image model (GLM-Image)", "transformers or diffusers"),
}
# By the part of the name that tells them, where there is no config.json to ask.
NAMED_SO = (
    ("glm-edge-v", "glm4v"), ("glm-4v", "glm4v"), ("glm-4.1v", "glm4v"), ("glm-4.5v", "glm4v_moe"),
    ("glm-4.6v", "glm46v"), ("glm-ocr", "glm_ocr"), ("glm-asr", "glmasr"), ("glm-image", "glm_image"),
    ("glm-4.7-flash", "glm4_moe_lite"), ("glm-4.5", "glm4_moe"), ("glm-4.6", "glm4_moe"), ("glm-4.7", "glm4_moe"),
    ("glm-5.3-flash", "glm5_next"), ("glm-5", "glm_moe_dsa"),
)  # fmt: skip


def refuse(raw: Mapping[str, Any], where: str) -> GlmError:
    """Why a config.json of another ``model_type`` is not read."""
    kind = raw.get("model_type")
    if isinstance(kind, str) and kind in NOT_OURS:
        return _not_ours(kind, where)
    return GlmError(
        "config-invalid", f"model_type is {plain(repr(kind), 40)}, not 'chatglm', 'glm' or 'glm4'", where=where,
        hint="glmcore runs ChatGLM-6B to GLM-4-9B, GLM-4-0414, GLM-Z1 and GLM-Edge",
    )  # fmt: skip


def foreign_name(name: str) -> GlmError | None:
    """The same for a model that is given by its name alone; None where the name tells of no such model."""
    low = name.lower()
    kind = next((kind for part, kind in NAMED_SO if part in low), None)
    return None if kind is None else _not_ours(kind, plain(name, 200))


def _not_ours(kind: str, where: str) -> GlmError:
    what, runner = NOT_OURS[kind]
    return GlmError(
        "config-invalid", f"{kind} is {what}, which glmcore does not run", where=where, hint=f"{runner} runs it"
    )
