"""What upscaling did to a model in memory, kept with the model: to be asked for, and to refuse a second time."""

from dataclasses import dataclass
from typing import Any

from solar_upscale.errors import UnsupportedError
from solar_upscale.pattern import LayerPattern
from solar_upscale.text import counted

__all__ = ["UpscaledModel", "record_upscaling", "refuse_second_time", "upscale_report"]

# A plain attribute of the module: no part of its config or its state dict, but copied with it.
_ATTRIBUTE = "_solar_upscale_report"


@dataclass(frozen=True, slots=True, repr=False)
class UpscaledModel:
    """What ``upscale_model`` did: the stack, the pattern, the factor on each layer, and which layers are new."""

    stack: str
    pattern: LayerPattern
    init: str
    factors: tuple[float, ...]

    @property
    def new_layers(self) -> tuple[int, ...]:
        """The layers that are copies, from 0: what ``freeze_originals`` takes."""
        return self.pattern.repeats

    def __repr__(self) -> str:
        depth = f"{self.pattern.num_source_layers} -> {len(self.pattern)} layers"
        return f"<UpscaledModel {self.stack}: {depth}, {counted(len(self.new_layers), 'new layer')}, init {self.init}>"


def upscale_report(model: Any) -> UpscaledModel:
    """What ``upscale_model`` last did to a model in this process. The model's config does not have it.

    Raises:
        UnsupportedError: nothing was done to it here; of a checkpoint, solar_upscale.json says what was done.
    """
    report = vars(model).get(_ATTRIBUTE)
    if not isinstance(report, UpscaledModel):
        raise UnsupportedError(
            f"{type(model).__name__}: was not upscaled in this process; solar_upscale.json says it of a checkpoint"
        )
    return report


def record_upscaling(model: Any, report: UpscaledModel) -> None:
    """Keep the report with the model."""
    vars(model)[_ATTRIBUTE] = report


def refuse_second_time(model: Any) -> None:
    """Refuse a model that was upscaled already: a cell that runs twice would repeat the repeats.

    Raises:
        UnsupportedError: it was.
    """
    report = vars(model).get(_ATTRIBUTE)
    if isinstance(report, UpscaledModel):
        depth = f"{report.pattern.num_source_layers} to {len(report.pattern)} layers"
        raise UnsupportedError(
            f"{type(model).__name__}: was upscaled already, from {depth}; load the model again, or give again=True to "
            "upscale the upscaled model"
        )
