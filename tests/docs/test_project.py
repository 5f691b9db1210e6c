"""What holds the project to its word: public names, one version, recipes that load, no large files."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

import solar_upscale
from solar_upscale.recipe import load_recipe, shipped_recipes
from tests.support.processes import ROOT

MAKEFILE = (ROOT / "Makefile").read_text()


def tracked() -> list[Path]:
    try:
        result = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    return [ROOT / name for name in result.stdout.split("\0") if name and (ROOT / name).is_file()]


def test_public_names_match_the_lazy_exports() -> None:
    assert sorted(solar_upscale.__all__) == sorted(solar_upscale._MODULES)
    assert sorted(dir(solar_upscale)) == sorted(solar_upscale.__all__)
    source = (ROOT / "solar_upscale" / "__init__.py").read_text()
    for_types = source[source.index("if TYPE_CHECKING:") : source.index("_MODULES")]
    named = re.findall(r"\w+", " ".join(re.findall(r"import (\([^)]*\)|.*)", for_types)))
    assert sorted(named) == sorted(solar_upscale._MODULES)


@pytest.mark.parametrize("name", solar_upscale.__all__)
def test_public_name_resolves_to_its_module_export(name: str) -> None:
    value = getattr(solar_upscale, name)
    if name != "__version__":
        module = __import__(f"solar_upscale.{solar_upscale._MODULES[name]}", fromlist=[name])
        assert name in module.__all__
        assert value.__doc__


def test_name_that_is_not_public_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'upscale_everything'"):
        _ = solar_upscale.upscale_everything


def test_version_is_defined_once() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["project"]["dynamic"] == ["version"]
    assert project["tool"]["hatch"]["version"]["path"] == "solar_upscale/_version.py"
    typed = [path for path in (ROOT / "solar_upscale").rglob("*.py") if re.search(r"__version__ = ", path.read_text())]
    assert typed == [ROOT / "solar_upscale" / "_version.py"]
    assert re.fullmatch(r"\d+\.\d+\.\d+(\.dev\d+)?", solar_upscale.__version__)


def test_every_recipe_in_configs_loads_by_its_name() -> None:
    names = sorted(path.stem for path in (ROOT / "configs").glob("*.yaml"))
    assert len(names) > 20
    assert [recipe.name for recipe in shipped_recipes()] == names
    for name in names:
        recipe = load_recipe(name)
        assert recipe == load_recipe(ROOT / "configs" / f"{name}.yaml")
        assert recipe.request.layers
        assert recipe.source


def test_no_large_file_is_tracked() -> None:
    large = [(path.relative_to(ROOT), path.stat().st_size) for path in tracked() if path.stat().st_size > 10**6]
    assert large == []


def test_modules_stay_short_enough_to_read() -> None:
    long = {path.name: lines for path in (ROOT / "solar_upscale").rglob("*.py") if (lines := _lines(path)) > 800}
    assert long == {}


def _lines(path: Path) -> int:
    return path.read_text().count("\n")


def test_makefile_lists_each_of_its_targets() -> None:
    targets = set(re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE))
    listed = set(re.findall(r"^([a-z-]+): .*##", MAKEFILE, re.MULTILINE))
    assert targets == listed
    assert {"demo", "test", "check", "build"} <= targets


def test_modules_run_by_make_exist() -> None:
    for module in re.findall(r"python -m (tests\.[a-z_.]+|benchmarks\.[a-z_]+)", MAKEFILE):
        assert (ROOT / f"{module.replace('.', '/')}.py").exists(), module


def test_commands_in_the_readme_exist() -> None:
    text = (ROOT / "README.md").read_text()
    targets = set(re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE))
    unknown = [
        target for target in re.findall(r"`?make ([a-z][a-z-]+)`?$", text, re.MULTILINE) if target not in targets
    ]
    assert unknown == []
    from solar_upscale.cli.parsers import PARSERS

    options = set(re.findall(r"--[a-z-]+", " ".join(parser().format_help() for parser in PARSERS.values())))
    commands = re.findall(r"^\s*\$?\s*solar-upscale .*$", text, re.MULTILINE)
    assert commands
    for command in commands:
        assert set(re.findall(r"(?<=\s)--[a-z-]+", command)) <= options | {"--version"}, command
