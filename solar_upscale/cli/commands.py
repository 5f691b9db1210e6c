"""The commands: each turns its options into values, calls the library, and prints a report."""

import argparse
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any, NamedTuple

from solar_upscale.cli.executors import passes_executor
from solar_upscale.cli.terminal import (
    PROGRAM,
    configure_hub_client,
    print_report,
    print_result,
    print_unless_quiet,
    print_warnings,
    progress,
    terminal_look,
)
from solar_upscale.errors import PatternError, printable

if TYPE_CHECKING:
    from solar_upscale.plan.types import UpscalePlan
    from solar_upscale.recipe import Recipe
    from solar_upscale.request import Destination, UpscaleRequest
    from solar_upscale.source.protocol import Source

__all__ = ["COMMANDS"]

_log = logging.getLogger("solar_upscale")


def _upscale(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    from solar_upscale.plan.report import job_report, written_report
    from solar_upscale.upscale import carry_out
    from solar_upscale.write.shards import nbytes_by_method

    job = _job(parser, options)
    if options.dry_run:
        _print_plan(job, options)
        return
    output, plan = job.output, job.plan
    assert output is not None, "OUT is required without --dry-run"
    state = job.preview()
    print_unless_quiet(options, lambda: job_report(plan, str(output), state, **terminal_look()))
    print_warnings(plan.warnings)
    started = monotonic()
    with progress(plan.total_size, options) as on_bytes, passes_executor(options) as executor:
        shards, url = carry_out(
            plan, job.source, output, job.destination, overwrite=job.overwrite, executor=executor, on_bytes=on_bytes
        )
    seconds, moved = monotonic() - started, nbytes_by_method(shards)
    print_result(
        options,
        lambda: {
            "output": str(output),
            **_plan_json(plan, options),
            "moved": moved,
            "seconds": round(seconds, 3),
            **({"url": url} if url else {}),
        },
        lambda: "\n" + written_report(_output_text(output, options), moved, seconds) + (url or ""),
    )


def _plan(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    _print_plan(_job(parser, options), options)


class _Job(NamedTuple):
    """What a command line that upscales asks for, planned."""

    plan: "UpscalePlan"
    source: "Source"
    output: Path | None
    destination: "Destination | None"
    overwrite: bool

    def preview(self) -> str:
        """What is at ``output``, in words; an output that would be refused is."""
        from solar_upscale.upscale import preview_output

        assert self.output is not None, "asked only of a job that has one"
        return preview_output(self.plan, self.source, self.output, self.destination, overwrite=self.overwrite)


def _job(parser: argparse.ArgumentParser, options: argparse.Namespace) -> _Job:
    from solar_upscale.upscale import plan_source

    if options.tensors and not options.json:
        parser.error("--tensors requires --json")
    recipe = _recipe(options)
    source_text, output = _source_and_output(parser, options, recipe)
    request = _request(parser, options, recipe)
    destination = _destination(parser, options, request)
    source = _open(source_text, options, headers_only=options.dry_run)
    _log.info("%s: reading headers and config.json", printable(source_text))
    plan = plan_source(source, request)
    _log.info("planned %d layers in %d shards", len(plan.pattern), len(plan.shards))
    print_warnings(_request_warnings(options, recipe))
    if options.repeat_every and not plan.pattern.repeats:
        raise PatternError(
            f"--repeat-every {options.repeat_every}: repeats no layer; the model has {plan.before.layers} layers"
        )
    return _Job(plan, source, output, destination, options.overwrite)


def _print_plan(job: _Job, options: argparse.Namespace) -> None:
    """The report of a job, and what would become of its output; an output that the run would refuse is refused."""
    from solar_upscale.plan.report import plan_report

    output = None if job.output is None else f"{job.output}: {job.preview()}"
    print_report(
        options,
        lambda: _plan_json(job.plan, options),
        lambda: plan_report(job.plan, output, **terminal_look()),
    )


def _output_text(output: Path, options: argparse.Namespace) -> str:
    shards_are_deleted = options.delete_local_shards and not any(output.glob("*.safetensors"))
    return f"{output} (without the shards, which are on the Hub)" if shards_are_deleted else str(output)


def _destination(
    parser: argparse.ArgumentParser, options: argparse.Namespace, request: "UpscaleRequest"
) -> "Destination | None":
    """Where to publish the result; options that exclude each other are a usage error."""
    from solar_upscale.errors import OutputError
    from solar_upscale.request import check_destination, destination_from

    try:
        destination = destination_from(
            options.push_to_hub,
            token=options.token,
            private=options.private,
            create_pr=options.create_pr,
            commit_message=options.commit_message,
            delete_local_shards=options.delete_local_shards,
        )
        concurrent_passes = options.workers > 1 or options.dask is not None
        check_destination(destination, request, concurrent_passes=concurrent_passes)
    except OutputError as error:
        parser.error(str(error))
    if destination is not None:
        configure_hub_client(options)
    return destination


def _plan_json(plan: "UpscalePlan", options: argparse.Namespace) -> dict[str, Any]:
    from solar_upscale.report.plan_json import plan_json, plan_json_with_tensors

    return plan_json_with_tensors(plan) if options.tensors else plan_json(plan)


def _inspect(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    _no_layers(parser, options)
    from solar_upscale.report.inspection import inspect_report
    from solar_upscale.upscale import inspect_checkpoint

    found = inspect_checkpoint(_open(options.source, options, headers_only=True))
    print_report(options, lambda: found, lambda: inspect_report(found))


def _verify(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    _no_layers(parser, options)
    from dataclasses import asdict

    from solar_upscale.verify.output import verify_checkpoint, verify_report

    if not all(Path(path).is_dir() for path in (options.output, options.source) if path is not None):
        configure_hub_client(options)
    with progress(None, options) as on_bytes:
        report = verify_checkpoint(
            options.output,
            options.source,
            revision=options.revision,
            token=options.token,
            cache_dir=options.cache_dir,
            local_files_only=options.local_files_only,
            on_bytes=on_bytes,
        )
    print_result(options, lambda: asdict(report), lambda: verify_report(report))


def _push(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    _no_layers(parser, options)
    from dataclasses import asdict

    from solar_upscale.upscale import publish_checkpoint
    from solar_upscale.verify.output import verify_report

    configure_hub_client(options)
    with progress(None, options) as on_bytes:
        published = publish_checkpoint(
            options.output,
            options.repo_id,
            source=options.source,
            token=options.token,
            private=options.private,
            revision=options.revision,
            create_pr=options.create_pr,
            commit_message=options.commit_message,
            on_bytes=on_bytes,
        )
    url, report = published.url, published.verified
    assert report is not None, "publishing a folder verifies it"
    print_result(options, lambda: {"url": url, "verified": asdict(report)}, lambda: f"{verify_report(report)}{url}")


def _recipes(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    _no_layers(parser, options)
    from solar_upscale.recipe import load_recipe, recipe_text, shipped_recipes
    from solar_upscale.report.recipes import recipe_json, recipe_report, recipes_json, recipes_report

    if options.name is None:
        recipes = shipped_recipes()
        print_report(options, lambda: recipes_json(recipes), lambda: recipes_report(recipes))
        return
    recipe, text = load_recipe(options.name), recipe_text(options.name)
    print_report(options, lambda: recipe_json(recipe), lambda: recipe_report(recipe, text, **terminal_look()))


def _completion(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    _no_layers(parser, options)
    from solar_upscale.cli.completion import completion_script

    script = completion_script(options.shell)
    print_report(options, lambda: {"shell": options.shell, "script": script}, lambda: script)


COMMANDS: dict[str, Callable[[argparse.ArgumentParser, argparse.Namespace], None]] = {
    "upscale": _upscale,
    "plan": _plan,
    "inspect": _inspect,
    "verify": _verify,
    "push": _push,
    "recipes": _recipes,
    "completion": _completion,
}


# ---------------------------------------------------------------- from arguments to values


def _recipe(options: argparse.Namespace) -> "Recipe | None":
    if options.config is None:
        return None
    from solar_upscale.recipe import load_recipe

    return load_recipe(options.config)


def _source_and_output(
    parser: argparse.ArgumentParser, options: argparse.Namespace, recipe: "Recipe | None"
) -> tuple[str, Path | None]:
    """SOURCE and OUT; SOURCE may come from the recipe, and OUT is optional in a dry run."""
    paths = options.paths
    if not all(paths):
        parser.error("expected SOURCE and OUT, got an empty argument")
    if len(paths) > 2:
        parser.error(f"expected SOURCE and OUT, got {len(paths)} arguments: {' '.join(paths)}")
    if len(paths) == 2:
        return paths[0], Path(paths[1])
    if paths and options.single_path == "SOURCE":
        return paths[0], None
    recipe_has_source = recipe is not None and recipe.source is not None
    if recipe_has_source and (paths or options.dry_run):
        return _source_of(recipe, options), Path(paths[0]) if paths else None
    if options.dry_run and paths:
        return paths[0], None
    missing = "OUT" if paths or recipe_has_source else "SOURCE" if options.dry_run else "SOURCE and OUT"
    return parser.error(_missing(missing, options.layers))


def _source_of(recipe: "Recipe | None", options: argparse.Namespace) -> str:
    """The recipe's source; its revision applies to no other source, so it becomes the default only here."""
    assert recipe is not None, "callers check that there is a recipe"
    assert recipe.source is not None, "callers check that it has a source"
    options.revision = options.revision or recipe.revision
    return recipe.source


def _missing(what: str, entries: Sequence[str]) -> str:
    verb = "are" if " and " in what else "is"
    if len(entries) > 1:
        return f"{what} {verb} missing; --layers takes every argument after it, so put SOURCE OUT first or after --"
    return f"{what} {verb} missing; see {PROGRAM} --help"


def _no_layers(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    if options.layers:
        parser.error("--layers is not an option of this command")


def _request(parser: argparse.ArgumentParser, options: argparse.Namespace, recipe: "Recipe | None") -> "UpscaleRequest":
    """The request from the command line; what it leaves out comes from the recipe, if there is one."""
    from dataclasses import replace

    from solar_upscale.pattern import repeat_every
    from solar_upscale.request import UpscaleRequest, parse_model_id, parse_nbytes

    if options.layers and options.repeat_every:
        parser.error("--repeat-every stands in place of --layers; leave one of them out")
    layers = (repeat_every(options.repeat_every),) if options.repeat_every else tuple(options.layers)
    if recipe is None and not layers:
        parser.error('--layers is missing; for example --layers "range(0,24)" "range(8,32)"')
    request = UpscaleRequest(()) if recipe is None else recipe.request
    if layers:
        request = replace(request, layers=layers, entry_scales=None, scale_filters=())
    size = options.max_shard_size
    return replace(
        request,
        init=options.init or request.init,
        stack=options.stack or request.stack,
        max_shard_nbytes=request.max_shard_nbytes if size is None else parse_nbytes(size),
        drop_mtp=options.drop_mtp,
        assume_uniform=options.assume_uniform,
        base_model=None if options.base_model is None else parse_model_id(options.base_model),
    )


def _request_warnings(options: argparse.Namespace, recipe: "Recipe | None") -> list[str]:
    """What is odd about the arguments themselves; what is odd about the plan is said by the plan."""
    from solar_upscale.pattern import entry_warnings

    warnings = [*entry_warnings(options.layers)]
    if recipe is not None and (options.layers or options.repeat_every):
        option = "--repeat-every" if options.repeat_every else "--layers"
        warnings.insert(0, f"{option} replaces the layers of recipe {recipe.name}")
    return warnings


def _open(text: str, options: argparse.Namespace, *, headers_only: bool) -> "Source":
    from solar_upscale.request import HubOptions
    from solar_upscale.source.opening import open_source

    if not Path(text).is_dir():
        configure_hub_client(options)
    hub = HubOptions(
        options.revision,
        options.token,
        None if options.cache_dir is None else Path(options.cache_dir),
        options.local_files_only,
        getattr(options, "stream", False),
    )
    return open_source(text, hub, headers_only=headers_only)
