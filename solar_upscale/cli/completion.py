"""Completion scripts for bash, zsh and fish, made from the parsers.

A script is static: completing starts no Python. It knows commands, options, their choices and the shipped recipes.
"""

import argparse
import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping

from solar_upscale.cli.parsers import PARSERS
from solar_upscale.cli.terminal import PROGRAM
from solar_upscale.recipe import recipe_names
from solar_upscale.start.init import STARTS

__all__ = ["completion_script"]


def completion_script(shell: str) -> str:
    """The script that a shell (bash, zsh or fish) evaluates."""
    return _SCRIPTS[shell]()


def _bash() -> str:
    commands = " ".join(PARSERS)
    options = "\n".join(
        f'            {name}) words="{" ".join(_option_words(make()))}" ;;' for name, make in PARSERS.items()
    )
    values = _values()
    offered = "\n".join(
        f'        {option}) _solar_upscale_offer "{_BASH_FILES[kind]}" "{" ".join(words)}" "$cur"; return ;;'
        for option, (kind, words) in values.items()
        if kind or words
    )
    free = "|".join(option for option, offer in values.items() if not any(offer))
    arguments = "\n".join(f'        {name}) words="{" ".join(words)}" ;;' for name, words in _argument_words().items())
    return f"""\
# bash completion for {PROGRAM}
_solar_upscale_offer() {{
    local IFS=$'\\n'
    COMPREPLY=($(compgen $1 -W "${{2// /$IFS}}" -- "$3"))
}}
_solar_upscale() {{
    local cur=${{COMP_WORDS[COMP_CWORD]}} prev=${{COMP_WORDS[COMP_CWORD-1]}} command=upscale words=
    if [[ $COMP_CWORD -gt 1 && " {commands} " == *" ${{COMP_WORDS[1]}} "* ]]; then
        command=${{COMP_WORDS[1]}}
    fi
    case $prev in
{offered}
        {free}) return ;;
    esac
    if [[ $cur == -* ]]; then
        case $command in
{options}
        esac
        _solar_upscale_offer "" "$words" "$cur"
        return
    fi
    case $command in
{arguments}
    esac
    [[ $COMP_CWORD -eq 1 ]] && words="{commands}"
    _solar_upscale_offer -d "$words" "$cur"
}}
complete -o filenames -F _solar_upscale {PROGRAM}
"""


def _zsh() -> str:
    described = " ".join(shlex.quote(f"{name}:{_summary(make())}") for name, make in PARSERS.items())
    cases = "\n".join(_zsh_case(name, make()) for name, make in PARSERS.items())
    return f"""\
#compdef {PROGRAM}
_solar_upscale() {{
    local command=upscale
    local -a commands=({described})
    if (( CURRENT == 2 )); then
        [[ $words[2] == -* ]] || _describe command commands
    elif (( ${{commands[(I)$words[2]:*]}} )); then
        command=$words[2]
        shift words
        (( CURRENT-- ))
    fi
    case $command in
{cases}
    esac
}}
if [[ $funcstack[1] == _solar_upscale ]]; then
    _solar_upscale "$@"
else
    compdef _solar_upscale {PROGRAM}
fi
"""


def _zsh_case(command: str, parser: argparse.ArgumentParser) -> str:
    values = _values()
    specs = []
    for action in _options(parser):
        for option in action.option_strings:
            spec = f"{option}[{_help(action)}]"
            if action.nargs != 0:
                kind, words = values.get(option, ("", ()))
                offer = {"files": "_files", "folders": "_files -/"}.get(kind, "( )")
                spec += f":{action.metavar or 'VALUE'}:" + (f"({' '.join(words)})" if words else offer)
            specs.append(shlex.quote(spec))
    words = _argument_words().get(command, ())
    specs.append(shlex.quote(f"*:{command}:({' '.join(words)})" if words else "*:folder:_files -/"))
    body = " \\\n            ".join(specs)
    return f"        {command}) _arguments \\\n            {body} ;;"


def _fish() -> str:
    lines = [f"# fish completion for {PROGRAM}", f"complete -c {PROGRAM} -f"]
    lines += [
        f"complete -c {PROGRAM} -n __fish_use_subcommand -a {name} -d {_fish_quoted(_summary(make()))}"
        for name, make in PARSERS.items()
    ]
    lines.append(f"complete -c {PROGRAM} -a '(__fish_complete_directories)'")
    named = " ".join(name for name in PARSERS if name != "upscale")
    values = _values()
    for command, make in PARSERS.items():
        condition = f"not __fish_seen_subcommand_from {named}" if command == "upscale" else ""
        condition = condition or f"__fish_seen_subcommand_from {command}"
        start = f"complete -c {PROGRAM} -n {_fish_quoted(condition)}"
        lines += [f"{start} -a {_fish_quoted(' '.join(words))}" for words in [_argument_words().get(command)] if words]
        for action in _options(make()):
            names = " ".join(
                f"-l {option[2:]}" if option.startswith("--") else f"-s {option[1:]}"
                for option in action.option_strings
            )
            kind, words = values.get(action.option_strings[-1], ("", ()))
            value = "" if action.nargs == 0 else " -r -F" if kind else " -x"
            offered = f" -a {_fish_quoted(' '.join(words))}" if words else ""
            lines.append(f"{start} {names}{value}{offered} -d {_fish_quoted(_help(action))}")
    return "\n".join(lines) + "\n"


_SCRIPTS: Mapping[str, Callable[[], str]] = {"bash": _bash, "zsh": _zsh, "fish": _fish}
_BASH_FILES = {"": "", "files": "-f", "folders": "-d"}


def _values() -> dict[str, tuple[str, tuple[str, ...]]]:
    """For each option with a value: whether it may be a file or folder, and the words to offer."""
    offered: dict[str, tuple[str, tuple[str, ...]]] = {
        "--config": ("files", recipe_names()),
        "--init": ("", tuple(start.spelling.partition("F1")[0] for start in STARTS.values())),
        "--cache-dir": ("folders", ()),
        "--source": ("folders", ()),
    }
    taking = {
        option: ("", ())
        for make in PARSERS.values()
        for action in _options(make())
        if action.nargs != 0 and action.dest != "layers"
        for option in action.option_strings
    }
    return {**taking, **offered}


def _argument_words() -> dict[str, tuple[str, ...]]:
    """The words that a command's argument may be, where it is no folder."""
    return {"recipes": recipe_names(), "completion": ("bash", "zsh", "fish")}


def _options(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    return (action for action in parser._actions if action.option_strings)


def _option_words(parser: argparse.ArgumentParser) -> Iterable[str]:
    return (option for action in _options(parser) for option in action.option_strings if option.startswith("--"))


def _summary(parser: argparse.ArgumentParser) -> str:
    """The first line of what the parser says of its command."""
    return (parser.description or "").splitlines()[0]


def _help(action: argparse.Action) -> str:
    """What a parser says of an option, up to its first detail."""
    return re.split(r"[;:]| \(", (action.help or "").replace("%%", "%"), maxsplit=1)[0]


def _fish_quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
