"""Recipes: a whole job in one YAML file, in any of three dialects, which are recognised by their keys.

Our own dialect; only ``layers`` is required:

    source: mistralai/Mistral-7B-v0.1     # a Hub repo id or a folder
    revision: main                        # of the source
    layers: ["0:24", "8:32"]              # entries of the layer index language, or one alone;
                                          # {layers: "8:32", scale: 0.25} gives an entry a factor of its own
    init: copy                            # as --init; an entry's scale overrides it
    stack: model.layers                   # as --stack
    max_shard_size: 5GB                   # as --max-shard-size
    published: {target_layers: 48}        # what `solar-upscale recipes` shows; see ``Published``

FusionBench's method file (``_target_: DepthUpscalingAlgorithm`` with ``layer_indices``), and mergekit's passthrough
with one model. A recipe is only read here: entries are resolved by ``solar_upscale.pattern``, and checked against a
checkpoint by the planner.
"""

from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

from solar_upscale.errors import PatternError
from solar_upscale.recipe.types import Published, Recipe
from solar_upscale.text import closest

__all__ = ["Published", "Recipe", "load_recipe", "recipe_names", "recipe_text", "shipped_recipes"]

MAX_NBYTES = 1 << 20


def load_recipe(name_or_path: str | Path) -> Recipe:
    """Load a recipe file, or the shipped recipe of this name.

    The name of a shipped recipe takes precedence over a file; write ``./NAME`` for a file with the same name.

    Raises:
        PatternError: there is no such recipe, or the file is not a recipe; the message has file and line.
    """
    file, name = _find(name_or_path)
    return _read(file, name)


def recipe_text(name_or_path: str | Path) -> str:
    """The text of a recipe, as its file has it.

    Raises:
        PatternError: as ``load_recipe``.
    """
    file, _ = _find(name_or_path)
    return _read_text(file)


def recipe_names() -> tuple[str, ...]:
    """The name of every recipe that comes with the package; none is read."""
    return tuple(sorted(_shipped_files()))


def shipped_recipes() -> tuple[Recipe, ...]:
    """Every recipe that comes with the package, by name."""
    return tuple(_read(file, name) for name, file in sorted(_shipped_files().items()))


def _find(name_or_path: str | Path) -> tuple[Traversable, str]:
    """The file of a recipe, and the recipe's name."""
    shipped = _shipped_files()
    if isinstance(name_or_path, str) and name_or_path in shipped:
        return shipped[name_or_path], name_or_path
    path = Path(name_or_path)
    try:
        if path.is_file():
            return path, path.stem
        found = path.exists()
    except OSError as error:  # a name that is too long, a folder without search permission
        raise PatternError(f"{path}: cannot be read: {error.strerror or error}") from error
    if found:
        raise PatternError(f"{path}: not a regular file; expected a recipe in YAML")
    raise PatternError(_no_such_recipe(str(name_or_path), list(shipped)))


def _shipped_files() -> dict[str, Traversable]:
    """The shipped files by recipe name. The wheel carries them inside the package, a checkout beside it."""
    folder: Traversable = resources.files("solar_upscale") / "configs"
    if not folder.is_dir():
        folder = Path(__file__).parents[2] / "configs"
    return {file.name.removesuffix(".yaml"): file for file in folder.iterdir() if file.name.endswith(".yaml")}


def _read(file: Traversable, name: str) -> Recipe:
    # YAML is imported only for jobs that have a recipe.
    from solar_upscale.recipe.dialects import read_recipe
    from solar_upscale.recipe.document import read_document

    return read_recipe(read_document(_read_text(file), _shown(file)), name)


def _shown(file: Traversable) -> str:
    return str(file) if isinstance(file, Path) else file.name


def _read_text(file: Traversable) -> str:
    shown = _shown(file)
    try:
        with file.open("rb") as stream:
            data = stream.read(MAX_NBYTES + 1)
        text = data.decode("utf-8-sig")
    except OSError as error:
        raise PatternError(f"{shown}: cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise PatternError(f"{shown}:{line}: not UTF-8 text: {error.reason}; expected a recipe in YAML") from error
    if len(data) > MAX_NBYTES:
        raise PatternError(f"{shown}: larger than {MAX_NBYTES:,} bytes; expected a recipe in YAML")
    return text


def _no_such_recipe(name: str, names: list[str]) -> str:
    close = closest(name, names)
    hint = f'did you mean "{close}"? ' if close else ""
    return f"{name}: neither a file nor a shipped recipe; {hint}`solar-upscale recipes` lists them"
