"""Recipes as a table, one by one, and as JSON."""

from collections.abc import Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from solar_upscale.pattern import parse_layers
from solar_upscale.plan.layer_map.terminal import terminal_map
from solar_upscale.start.factors import layer_factors
from solar_upscale.start.init import parse_init
from solar_upscale.text import rows_text, short_count

if TYPE_CHECKING:
    from solar_upscale.pattern import LayerPattern
    from solar_upscale.recipe import Recipe

__all__ = ["recipe_json", "recipe_report", "recipes_json", "recipes_report"]


def recipe_json(recipe: "Recipe") -> dict[str, Any]:
    """One recipe as a JSON value; ``sources`` is the source layer of each target layer, where the depth is known."""
    pattern = _pattern(recipe)
    return {
        "name": recipe.name,
        "source": recipe.source,
        "layers": list(recipe.request.entries),
        "init": recipe.request.init,
        "published": asdict(recipe.published) if recipe.published else None,
        "sources": list(pattern.sources) if pattern else None,
    }


def recipes_json(recipes: "Iterable[Recipe]") -> list[dict[str, Any]]:
    """The recipes as JSON values, without the layers one by one."""
    return [{key: value for key, value in recipe_json(recipe).items() if key != "sources"} for recipe in recipes]


def recipe_report(
    recipe: "Recipe", text: str, *, width: int = 80, colour: bool = False, encoding: str = "utf-8"
) -> str:
    """A recipe's text, the layer map that it gives, where its model is published, and how to use it."""
    sections = [text.rstrip()]
    pattern = _pattern(recipe)
    if pattern is not None:
        factors = layer_factors(pattern, recipe.request, parse_init(recipe.request.init))
        picture = terminal_map(pattern, factors=factors, width=width, colour=colour, encoding=encoding)
        sections.append(picture.rstrip())
    sections.append(rows_text(_facts(recipe), max_rows=None))
    return "\n\n".join(section for section in sections if section) + "\n"


def recipes_report(recipes: "Iterable[Recipe]") -> str:
    """One row per recipe: its name, its source, and depth and parameters before and after."""
    table = [("name", "source", "layers", "parameters", "init")]
    for recipe in recipes:
        facts = recipe.published
        layers = f"{facts.source_layers} -> {facts.target_layers}" if facts else ""
        parameters = ""
        if facts and facts.source_parameters and facts.target_parameters:
            parameters = f"{short_count(facts.source_parameters)} -> {short_count(facts.target_parameters)}"
        table.append((recipe.name, recipe.source or "", layers, parameters, recipe.request.init))
    return rows_text(table, indent="", max_rows=None) + "\n"


def _pattern(recipe: "Recipe") -> "LayerPattern | None":
    """The recipe's pattern, if it says of how many layers its source is."""
    depth = recipe.published.source_layers if recipe.published else None
    return None if depth is None else parse_layers(recipe.request.layers, depth, where=f"{recipe.name}: layers")


def _facts(recipe: "Recipe") -> Iterable[tuple[str, str]]:
    facts = recipe.published
    if facts and facts.target_parameters:
        yield "parameters", short_count(facts.target_parameters)
    if facts and facts.reference:
        yield "published", facts.reference
    if facts and facts.note:
        yield "note", facts.note
    yield "to write it", f"solar-upscale {'' if recipe.source else 'SOURCE '}OUT --config {recipe.name}"
