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
        UpscaleWarning,
    )
    from solar_upscale.memory import DepthUpscalingAlgorithm, upscale_layers, upscale_model
    from solar_upscale.memory.freeze import freeze_originals
    from solar_upscale.memory.upscaled import UpscaledModel, upscale_report
    from solar_upscale.pattern import LayerPattern, repeat_every, resolve_layer_indices
    from solar_upscale.plan.types import UpscalePlan
    from solar_upscale.publish.checkpoint import Published
    from solar_upscale.recipe import Recipe, load_recipe, shipped_recipes
    from solar_upscale.upscale import (
        inspect_checkpoint,
        plan_checkpoint,
        plan_recipe,
        publish_checkpoint,
        upscale_checkpoint,
        upscale_recipe,
    )
    from solar_upscale.verify.output import VerifyReport, verify_checkpoint

_MODULES = {
    "CheckpointError": "errors",
    "DepthUpscalingAlgorithm": "memory",
    "HubError": "errors",
    "LayerPattern": "pattern",
    "OutputError": "errors",
    "PatternError": "errors",
    "Published": "publish.checkpoint",
    "Recipe": "recipe",
    "UnsupportedError": "errors",
    "UpscaleError": "errors",
    "UpscalePlan": "plan.types",
    "UpscaleWarning": "errors",
    "UpscaledModel": "memory.upscaled",
    "VerifyReport": "verify.output",
    "__version__": "_version",
    "freeze_originals": "memory.freeze",
    "inspect_checkpoint": "upscale",
    "load_recipe": "recipe",
    "plan_checkpoint": "upscale",
    "plan_recipe": "upscale",
    "publish_checkpoint": "upscale",
    "repeat_every": "pattern",
    "resolve_layer_indices": "pattern",
    "shipped_recipes": "recipe",
    "upscale_checkpoint": "upscale",
    "upscale_layers": "memory",
    "upscale_model": "memory",
    "upscale_recipe": "upscale",
    "upscale_report": "memory.upscaled",
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
    "Recipe",
    "UnsupportedError",
    "UpscaleError",
    "UpscalePlan",
    "UpscaleWarning",
    "UpscaledModel",
    "VerifyReport",
    "__version__",
    "freeze_originals",
    "inspect_checkpoint",
    "load_recipe",
    "plan_checkpoint",
    "plan_recipe",
    "publish_checkpoint",
    "repeat_every",
    "resolve_layer_indices",
    "shipped_recipes",
    "upscale_checkpoint",
    "upscale_layers",
    "upscale_model",
    "upscale_recipe",
    "upscale_report",
    "verify_checkpoint",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
