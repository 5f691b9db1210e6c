"""What a model's own code makes of the new depth: the model built anew, without weights, before and after.

Whatever differs between the two beside the weights (layer numbers, counts, lists, configs that a module keeps for
itself) is what the model in memory must learn, under whatever names its code holds it. If the two do not differ as the
pattern says, the surgery would be wrong and is refused.
"""

import copy
from collections.abc import Callable, Iterable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any

from solar_upscale.architecture import FieldChange, GatherRule
from solar_upscale.errors import UnsupportedError

__all__ = ["Fresh", "build_fresh", "set_field"]

# What a constructor may raise for a config that it does not take.
_CONSTRUCTION_ERRORS = (
    ArithmeticError, AssertionError, AttributeError, ImportError, LookupError, RuntimeError, TypeError, ValueError,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Fresh:
    """The model as its code builds it on the meta device, with the old config and with the new one."""

    before: Any
    after: Any

    def check(self, renamed: Callable[[str], Iterable[str]], gathers: Mapping[str, GatherRule]) -> None:
        """Do nothing if the new model has just the tensors that the pattern gives it.

        Args:
            renamed: The target names that a source tensor gets.
            gathers: Tensors outside the layers whose slices, one a layer, follow the pattern.

        Raises:
            UnsupportedError: it has others, or others' shapes; the first few are named.
        """
        wanted: dict[str, list[int]] = {}
        for name, tensor in self.before.state_dict().items():
            shape = list(tensor.shape)
            if name in gathers:
                rule = gathers[name]
                shape[rule.axis] = shape[rule.axis] // rule.source_slices * len(rule.sources)
            wanted |= dict.fromkeys(renamed(name), shape)
        got = {name: list(tensor.shape) for name, tensor in self.after.state_dict().items()}
        wrong = sorted(name for name in {*wanted, *got} if wanted.get(name) != got.get(name))
        if wrong:
            raise UnsupportedError(
                f"{type(self.after).__name__}: built with the new depth it does not have the tensors that the pattern "
                f"gives; {len(wrong)} differ: {wrong[0]}: expected {wanted.get(wrong[0])}, got {got.get(wrong[0])}"
            )

    def teach(self, model: Any, origin: Callable[[str], str]) -> None:
        """Give each module of the upscaled ``model`` what the new depth changes in it.

        A value that someone has set by hand, and that the code did not build, is left.

        Args:
            model: The model after the surgery.
            origin: The path that a module of it had in the source.
        """
        old = dict(self.before.named_modules(remove_duplicate=False))
        mine = dict(model.named_modules(remove_duplicate=False))
        for path, new in self.after.named_modules(remove_duplicate=False):
            if path in mine and origin(path) in old:
                _take_changes(mine[path], vars(old[origin(path)]), vars(new))


def build_fresh(model: Any, changes: Iterable[FieldChange]) -> Fresh | None:
    """The model built anew before and after the changes; None for one whose class builds nothing from a config.

    Raises:
        UnsupportedError: the model's code builds the old depth and refuses the new one.
    """
    if not hasattr(model, "_from_config"):
        return None
    import torch

    new_config = copy.deepcopy(model.config)
    for change in changes:
        set_field(new_config, change)
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        try:
            before = type(model)(copy.deepcopy(model.config))
        except _CONSTRUCTION_ERRORS:  # a class with a constructor of its own; its blocks still know their places
            return None
        try:
            return Fresh(before, type(model)(new_config))
        except _CONSTRUCTION_ERRORS as error:
            raise UnsupportedError(f"{type(model).__name__}: its code refuses the new depth: {error}") from error


def set_field(config: Any, change: FieldChange) -> None:
    """Set one changed field of a config object, inside its sub-configs and dicts too."""
    *path, name = change.path.split(".")
    owner = config
    for step in path:
        owner = owner[step] if isinstance(owner, MutableMapping) else getattr(owner, step)
    if isinstance(owner, MutableMapping):
        owner[name] = copy.deepcopy(change.after)
    else:
        setattr(owner, name, copy.deepcopy(change.after))


def _take_changes(mine: Any, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    from torch import nn

    own, torchs = vars(mine), vars(nn.Module())
    for name, value in new.items():
        if hasattr(value, "to_dict") and name in own and name in old:
            _take_changes(own[name], vars(old[name]), vars(value))
        elif name in old and name not in torchs and _is_plain(value) and own.get(name) == old[name] != value:
            setattr(mine, name, copy.deepcopy(value))


def _is_plain(value: Any) -> bool:
    """Whether a value is made of numbers and words alone."""
    if isinstance(value, Mapping):
        return all(map(_is_plain, value)) and all(map(_is_plain, value.values()))
    if isinstance(value, list | tuple | set | frozenset):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, bool | int | float | str)
