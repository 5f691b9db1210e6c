"""Builds a model's own class, without weights, at the old and at the new depth, and compares the two.

Any attribute that differs (a layer index, a count, a list, a module's own copy of the config) is one that the model in
memory needs changed too, whatever the code calls it. If the tensors do not differ as the pattern says, the surgery
would be wrong and is refused.
"""

import copy
from collections.abc import Callable, Iterable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any

from solar_upscale.architecture import FieldChange, GatherRule
from solar_upscale.errors import UnsupportedError

__all__ = ["Fresh", "build_fresh", "set_field"]

# What a constructor may raise for a config that it does not support.
_CONSTRUCTION_ERRORS = (
    ArithmeticError, AssertionError, AttributeError, ImportError, LookupError, RuntimeError, TypeError, ValueError,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Fresh:
    """The model as its class builds it on the meta device, with the old config and with the new one."""

    before: Any
    after: Any

    def check(self, renamed: Callable[[str], Iterable[str]], gathers: Mapping[str, GatherRule]) -> None:
        """Check that the new model has exactly the tensors that the pattern gives it.

        Args:
            renamed: Returns the target names of a source tensor.
            gathers: Tensors outside the layers with one slice for each layer, which are reordered by the pattern.

        Raises:
            UnsupportedError: names or shapes differ; the first difference is reported.
        """
        expected: dict[str, list[int]] = {}
        for name, tensor in self.before.state_dict().items():
            shape = list(tensor.shape)
            if name in gathers:
                rule = gathers[name]
                shape[rule.axis] = shape[rule.axis] // rule.source_slices * len(rule.sources)
            expected |= dict.fromkeys(renamed(name), shape)
        got = {name: list(tensor.shape) for name, tensor in self.after.state_dict().items()}
        wrong = sorted(name for name in {*expected, *got} if expected.get(name) != got.get(name))
        if wrong:
            raise UnsupportedError(
                f"{type(self.after).__name__}: built at the new depth, it does not have the tensors that the pattern "
                f"gives; {len(wrong)} differ: {wrong[0]}: expected {expected.get(wrong[0])}, got {got.get(wrong[0])}"
            )

    def apply_changes(self, model: Any, origin: Callable[[str], str]) -> None:
        """Set on each module of the upscaled ``model`` the attributes that the new depth changes.

        An attribute that was modified after construction is kept.

        Args:
            model: The model after the surgery.
            origin: Returns the path that a module had in the source.
        """
        old = dict(self.before.named_modules(remove_duplicate=False))
        modules = dict(model.named_modules(remove_duplicate=False))
        for path, new in self.after.named_modules(remove_duplicate=False):
            if path in modules and origin(path) in old:
                _apply_changes(modules[path], vars(old[origin(path)]), vars(new))


def build_fresh(model: Any, changes: Iterable[FieldChange]) -> Fresh | None:
    """Build the model's class before and after the changes; None if it cannot be built from a config.

    Raises:
        UnsupportedError: the model's code accepts the old depth but refuses the new one.
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
        except _CONSTRUCTION_ERRORS:  # a custom constructor; the caller renumbers the blocks by attribute name
            return None
        try:
            return Fresh(before, type(model)(new_config))
        except _CONSTRUCTION_ERRORS as error:
            raise UnsupportedError(f"{type(model).__name__}: its code refuses the new depth: {error}") from error


def set_field(config: Any, change: FieldChange) -> None:
    """Set one changed field of a config object, which may be in a sub-config or dict."""
    *path, name = change.path.split(".")
    owner = config
    for step in path:
        owner = owner[step] if isinstance(owner, MutableMapping) else getattr(owner, step)
    if isinstance(owner, MutableMapping):
        owner[name] = copy.deepcopy(change.after)
    else:
        setattr(owner, name, copy.deepcopy(change.after))


def _apply_changes(module: Any, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    from torch import nn

    own, reserved = vars(module), vars(nn.Module())
    for name, value in new.items():
        if hasattr(value, "to_dict") and name in own and name in old:
            _apply_changes(own[name], vars(old[name]), vars(value))
        elif name in old and name not in reserved and _is_plain(value) and own.get(name) == old[name] != value:
            setattr(module, name, copy.deepcopy(value))


def _is_plain(value: Any) -> bool:
    """Whether a value consists only of None, booleans, numbers and text, in containers or not."""
    if isinstance(value, Mapping):
        return all(map(_is_plain, value)) and all(map(_is_plain, value.values()))
    if isinstance(value, list | tuple | set | frozenset):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, bool | int | float | str)
