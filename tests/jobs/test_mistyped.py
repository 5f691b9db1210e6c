"""Mistyped commands, options, folders and entries: each is answered from the words alone, with the right suggestion."""

import shlex
import socket
import time
from pathlib import Path

import pytest

from solar_upscale import cli
from tests.support.checkpoints import tree, write_checkpoint

# What is typed, how it ends, and the message up to and including its first suggestion.
MISTYPED: list[tuple[str, int, str]] = [
    # commands
    ("plna tiny-mistral --layers 0:6", 2, '"plna" is neither a command nor a folder; did you mean "plan"?'),
    ("pln tiny-mistral --layers 0:6", 2, 'did you mean "plan"?'),
    ("Plan tiny-mistral --layers 0:6", 2, 'did you mean "plan"?'),
    ("insepct tiny-mistral", 2, 'did you mean "inspect"?'),
    ("verfy out --source tiny-mistral", 2, 'did you mean "verify"?'),
    ("verifiy out", 2, 'did you mean "verify"?'),
    ("psuh out me/SOLAR", 2, 'did you mean "push"?'),
    ("recipe", 2, 'did you mean "recipes"?'),
    ("recpies solar-10.7b", 2, 'did you mean "recipes"?'),
    ("upscael tiny-mistral out --layers 0:6", 2, 'did you mean "upscale"?'),
    ("publish out me/SOLAR", 2, 'did you mean "push"?'),
    ("info tiny-mistral", 2, 'did you mean "inspect"?'),
    ("--plan tiny-mistral --layers 0:6", 2, 'did you mean "plan"?'),
    ("-q plan tiny-mistral --layers 0:6", 2, "plan is a command and comes first: solar-upscale plan"),
    ("help plna", 2, 'did you mean "plan"?'),
    # options
    ("tiny-mistral out --layer 0:6", 2, "unknown option --layer; did you mean --layers?"),
    ("tiny-mistral out -layers 0:6", 2, "unknown option -layers; did you mean --layers?"),
    ("tiny-mistral out --pattern 0:6", 2, "did you mean --layers?"),
    ("tiny-mistral out --layers 0:6 --shards 5GB", 2, "did you mean --max-shard-size?"),
    ("tiny-mistral out --layers 0:6 --max_shard_size 5GB", 2, "did you mean --max-shard-size?"),
    ("tiny-mistral out --layers 0:6 --max-shard-size=5GB --force", 2, "did you mean --overwrite?"),
    ("tiny-mistral out --layers 0:6 --overwite", 2, "did you mean --overwrite?"),
    ("tiny-mistral out --layers 0:6 --dryrun", 2, "did you mean --dry-run?"),
    ("tiny-mistral out --recipe solar-10.7b", 2, "did you mean --config?"),
    ("tiny-mistral out --layers 0:6 --intit=identity", 2, "did you mean --init?"),
    ("tiny-mistral out --repeat-evry 4", 2, "did you mean --repeat-every?"),
    ("plan tiny-mistral --layers 0:6 --tensor --json", 2, "did you mean --tensors?"),
    ("verify out --sorce tiny-mistral", 2, "did you mean --source?"),
    ("inspect tiny-mistral --overwrite", 2, "--overwrite does not belong to this command; it belongs to upscale, plan"),
    # folders
    ("tiny-mistrl out --layers 0:6", 1, 'tiny-mistrl: no such folder; did you mean "tiny-mistral"?'),
    ("tiny_mistral out --layers 0:6", 1, 'did you mean "tiny-mistral"?'),
    ("tny-mistrl out --layers 0:6", 1, 'did you mean "tiny-mistral"?'),
    ("plan Tiny-Mistarl --layers 0:6", 1, 'did you mean "tiny-mistral"?'),
    ("inspect models/lama", 1, 'did you mean "models/llama"?'),
    ("inspect modles/llama", 1, 'did you mean "models/llama"?'),
    ("inspect ./tiny-mistal", 1, 'did you mean "tiny-mistral"?'),
    ("verify tiny-mistra", 1, 'did you mean "tiny-mistral"?'),
    ("verify models/lama", 1, 'did you mean "models/llama"?'),
    ("push tiny-mistrall me/SOLAR", 1, 'did you mean "tiny-mistral"?'),
    # values
    ("tiny-mistral out --layers 0-5", 1, 'did you mean "0:6"'),
    ("tiny-mistral out --layers 0-7", 1, 'did you mean "0:8"'),
    ("tiny-mistral out --layers '0:6 2:8'", 1, 'holds 2 entries; quote each by itself: "0:6" "2:8"'),
    ("tiny-mistral out --layers 'range(0,6) range(2,8)'", 1, 'quote each by itself: "range(0,6)" "range(2,8)"'),
    ("tiny-mistral out --layers '[2,8]'", 1, 'did you mean "2:8"?'),
    ("tiny-mistral out --layers rnage(0,6)", 1, 'did you mean "range"?'),
    ("tiny-mistral out --layers 0:6 --init identiy", 1, 'did you mean "identity"?'),
    ("tiny-mistral out --layers 0:6 --max-shard-size 5", 1, "did you mean 5GB?"),
    ("tiny-mistral out --config solar-10.8b", 1, 'did you mean "solar-10.7b"?'),
]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with two models, in which any use of the network fails the test."""
    write_checkpoint(tmp_path / "tiny-mistral", shards=2)
    write_checkpoint(tmp_path / "models" / "llama")
    monkeypatch.chdir(tmp_path)

    def refuse(*args: object, **options: object) -> None:
        raise AssertionError(f"the network was asked: {args}")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr("solar_upscale.source.hub.opening.open_model", refuse)
    return tmp_path


def ends(words: list[str]) -> int:
    try:
        return cli.main(words)
    except SystemExit as stop:
        return int(stop.code or 0)


@pytest.mark.parametrize(("line", "code", "message"), MISTYPED, ids=[line for line, _, _ in MISTYPED])
def test_mistyped_command_is_answered_at_once_with_the_right_suggestion_first(
    line: str, code: int, message: str, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before, started = tree(home), time.process_time()
    assert ends(shlex.split(line)) == code
    assert time.process_time() - started < 1
    shown = capsys.readouterr()
    assert shown.out == ""
    error = shown.err.splitlines()[-1]
    assert message in error
    assert "did you mean" not in error.partition(message)[0]
    assert tree(home) == before


def test_at_least_thirty_mistyped_commands_are_tried() -> None:
    assert len(MISTYPED) >= 30


@pytest.mark.parametrize(
    "source",
    [
        "gpt2",  # a bare word is a model's id too
        "distilgpt2",
        "mistralai/Mistral-7B-v0.1",
        "models/llama-2",  # another number is another model
        "models/llama-chat",  # and so is another word
        "tiny-mistral-base",
    ],
)
def test_name_that_may_be_meant_is_asked_of_the_hub(source: str, home: Path) -> None:
    write_checkpoint(home / "models" / "llama-3")
    with pytest.raises(AssertionError, match="the network was asked"):
        cli.main(["plan", source, "--layers", "0:6"])


def test_revision_names_a_model_on_the_hub_beside_a_folder_of_nearly_the_same_name(home: Path) -> None:
    with pytest.raises(AssertionError, match="the network was asked"):
        cli.main(["plan", "tiny-mistrl", "--revision", "main", "--layers", "0:6"])


def test_folder_without_a_checkpoint_is_not_suggested_for_a_models_id(home: Path) -> None:
    (home / "empty-folder").mkdir()
    with pytest.raises(AssertionError, match="the network was asked"):
        cli.main(["plan", "empty-foldr", "--layers", "0:6"])


def test_folder_that_is_named_like_a_command_is_a_source(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (home / "tiny-mistral").rename(home / "plans")
    assert ends(["plans", "out", "--layers", "0:6"]) == 0


@pytest.mark.parametrize("words", [["help"], ["-help"], ["help", "plan"], ["plan", "help"], ["version"], ["-V"]])
def test_help_and_version_work_as_words(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert ends(words) == 0
    shown = capsys.readouterr()
    start = "solar-upscale " if {"version", "-V"} & {*words} else "usage: solar-upscale"
    assert shown.out.startswith(f"{start} plan" if "plan" in words else start)
    assert shown.err == ""


def test_lists_of_two_layers_that_look_like_mergekits_ranges_warn(home: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert ends(["plan", "tiny-mistral", "--layers", "[0,5]", "[2,7]"]) == 0
    assert (
        '"[0,5]" is a list of two layers, 0 and 5; for what layer_range means in mergekit write 0:5 2:7' in caplog.text
    )
    caplog.clear()
    for layers in (["0:6", "[2,7]"], ["[0,1]", "[1,2]"], ["[0,5,7]"]):
        assert ends(["plan", "tiny-mistral", "--layers", *layers]) == 0
        assert "layer_range" not in caplog.text
