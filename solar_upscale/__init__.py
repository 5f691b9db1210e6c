"""Change the depth of a Hugging Face checkpoint without loading the model.

The public names are imported on first use, so importing the package is cheap.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from solar_upscale._version import __version__
    from solar_upscale.errors import (
        CheckpointError,
        HubError,
        OutputError,
        PatternError,
        UnsupportedError,
        UpscaleError,
    )
    from solar_upscale.memory import DepthUpscalingAlgorithm, upscale_layers, upscale_model
    from solar_upscale.memory.freeze import freeze_originals
    from solar_upscale.pattern import LayerPattern, repeat_every, resolve_layer_indices
    from solar_upscale.plan.types import UpscalePlan
    from solar_upscale.publish.checkpoint import Published
    from solar_upscale.upscale import inspect_checkpoint, plan_checkpoint, publish_checkpoint, upscale_checkpoint
    from solar_upscale.verify.output import VerifyReport, verify_checkpoint

_MODULES = {
    "CheckpointError": "errors",
    "DepthUpscalingAlgorithm": "memory",
    "HubError": "errors",
    "LayerPattern": "pattern",
    "OutputError": "errors",
    "PatternError": "errors",
    "Published": "publish.checkpoint",
    "UnsupportedError": "errors",
    "UpscaleError": "errors",
    "UpscalePlan": "plan.types",
    "VerifyReport": "verify.output",
    "__version__": "_version",
    "freeze_originals": "memory.freeze",
    "inspect_checkpoint": "upscale",
    "plan_checkpoint": "upscale",
    "publish_checkpoint": "upscale",
    "repeat_every": "pattern",
    "resolve_layer_indices": "pattern",
    "upscale_checkpoint": "upscale",
    "upscale_layers": "memory",
    "upscale_model": "memory",
    "verify_checkpoint": "verify.output",
}

__all__ = [
    "CheckpointError",
    "DepthUpscalingAlgorithm",
    "HubError",
    "LayerPattern",
    "OutputError",
    "PatternError",
    "Published",
    "UnsupportedError",
    "UpscaleError",
    "UpscalePlan",
    "VerifyReport",
    "__version__",
    "freeze_originals",
    "inspect_checkpoint",
    "plan_checkpoint",
    "publish_checkpoint",
    "repeat_every",
    "resolve_layer_indices",
    "upscale_checkpoint",
    "upscale_layers",
    "upscale_model",
    "verify_checkpoint",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
