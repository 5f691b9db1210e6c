"""What a mistyped command or option was meant to be, decided from the words alone: no file is read, no network asked.

SOURCE is looked at where it is opened, and entries of --layers in pattern/. What compares words is imported only once a
word is unknown.
"""

import argparse
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

__all__ = ["refuse_mistyped_command", "refuse_unknown_options", "with_help_and_version"]

# What other tools call a command or an option of ours.
_OTHER_COMMANDS = {
    "check": "verify",
    "validate": "verify",
    "info": "inspect",
    "show": "inspect",
    "list": "recipes",
    "ls": "recipes",
    "merge": "upscale",
    "run": "upscale",
    "preview": "plan",
    "publish": "push",
    "upload": "push",
}
_OTHER_OPTIONS = {
    "--pattern": "--layers",
    "--slices": "--layers",
    "--indices": "--layers",
    "--layer-indices": "--layers",
    "--layer-range": "--layers",
    "--range": "--layers",
    "--ranges": "--layers",
    "--block-expansion": "--repeat-every",
    "--every": "--repeat-every",
    "--repeat": "--repeat-every",
    "--shards": "--max-shard-size",
    "--shard-size": "--max-shard-size",
    "--out-shard-size": "--max-shard-size",
    "--start": "--init",
    "--scale": "--init",
    "--recipe": "--config",
    "--yaml": "--config",
    "--force": "--overwrite",
    "--replace": "--overwrite",
    "--exist-ok": "--overwrite",
    "--plan": "--dry-run",
    "--preview": "--dry-run",
    "--jobs": "--workers",
    "--threads": "--workers",
    "--num-workers": "--workers",
    "--offline": "--local-files-only",
    "--cache": "--cache-dir",
    "--branch": "--revision",
    "--silent": "--quiet",
    "--debug": "--verbose",
    "--push": "--push-to-hub",
    "--repo-id": "--push-to-hub",
    "--message": "--commit-message",
}

_HELP_AND_VERSION = {
    **dict.fromkeys(("help", "-help", "-?"), "--help"),
    **dict.fromkeys(("version", "-version", "-V"), "--version"),
}
_OPTION = re.compile(r"--?([A-Za-z][\w-]*)", re.ASCII)


def with_help_and_version(words: Sequence[str], commands: Iterable[str]) -> list[str]:
    """The words with ``help`` and ``version`` as options: ``help``, ``help COMMAND``, ``COMMAND help``, ``version``."""
    match list(words):
        case ["help", command] if command in commands:
            return [command, "--help"]
        case [command, "help"] if command in commands:
            return [command, "--help"]
        case [word, *rest] if word in _HELP_AND_VERSION:
            return [*rest, _HELP_AND_VERSION[word]]
    return list(words)


def refuse_mistyped_command(parser: argparse.ArgumentParser, word: str, commands: Sequence[str]) -> None:
    """End with a usage error if a word in the place of SOURCE is, or nearly is, a command and no folder.

    A bare word such as gpt2 may be a model on the Hub, and is left alone unless it is near a command.
    """
    meant = None
    if word.startswith("-"):
        bare = word.lstrip("-").casefold()
        meant = bare if bare in commands and word not in parser._option_string_actions else None
    elif re.fullmatch(r"[A-Za-z-]+", word, re.ASCII) and not Path(word).is_dir():
        meant = _OTHER_COMMANDS.get(word) or _closest(word, commands, cutoff=0.7)
    if meant == word:
        parser.error(f"{word} is a command and comes first: {parser.prog} {word} ...")
    if meant is not None:
        parser.error(f'"{word}" is neither a command nor a folder; did you mean "{meant}"?')


def refuse_unknown_options(
    parser: argparse.ArgumentParser, words: Iterable[str], parsers: Mapping[str, Callable[[], argparse.ArgumentParser]]
) -> None:
    """End with a usage error that names the first unknown option, and the one that was probably meant.

    ``parsers`` makes the parser of each command, to find where else the option belongs.
    """
    for word in words:
        if word == "--":
            return
        name = word.partition("=")[0]
        match = _OPTION.fullmatch(name)
        if match is None or name in parser._option_string_actions or _is_flags(parser, name):
            continue
        meant = _meant_option(match[1], parser)
        if meant is not None:
            parser.error(f"unknown option {name}; did you mean {meant}?")
        elsewhere = [command for command, make in parsers.items() if name in make()._option_string_actions]
        if elsewhere:
            parser.error(f"{name} does not belong to this command; it belongs to {', '.join(elsewhere)}")
        parser.error(f"unknown option {name}; {parser.prog} --help lists the options")


def _meant_option(name: str, parser: argparse.ArgumentParser) -> str | None:
    known = [option for option in parser._option_string_actions if option.startswith("--")]
    asked = f"--{name.casefold().replace('_', '-')}"
    meant = _OTHER_OPTIONS.get(asked)
    return meant if meant in known else _closest(asked, known, cutoff=0.75)


def _is_flags(parser: argparse.ArgumentParser, word: str) -> bool:
    """Whether a word such as -qv is made of short flags."""
    return word[1] != "-" and all(f"-{letter}" in parser._option_string_actions for letter in word[1:])


def _closest(word: str, choices: Iterable[str], *, cutoff: float) -> str | None:
    from solar_upscale.text import closest

    return closest(word, choices, cutoff=cutoff)
