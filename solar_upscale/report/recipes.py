"""The shipped recipes as a table and as JSON."""

from collections.abc import Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from solar_upscale.text import rows_text, short_count

if TYPE_CHECKING:
    from solar_upscale.recipe import Recipe

__all__ = ["recipes_json", "recipes_report"]


def recipes_json(recipes: "Iterable[Recipe]") -> list[dict[str, Any]]:
    """The recipes as JSON values."""
    return [
        {
            "name": recipe.name,
            "source": recipe.source,
            "layers": list(recipe.request.entries),
            "init": recipe.request.init,
            "published": asdict(recipe.published) if recipe.published else None,
        }
        for recipe in recipes
    ]


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
