"""Completion scripts: what bash offers, and that zsh and fish know every command and option."""

import shutil
import subprocess
from pathlib import Path

import pytest

from solar_upscale.cli.completion import completion_script
from solar_upscale.cli.parsers import PARSERS

TRY = """
COMP_WORDS=("$@")
COMP_CWORD=$(($# - 1))
_solar_upscale
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["pl"], ["plan"]),
        (["plan", "my"], ["my model"]),
        (["plan", "s", "--ini"], ["--init"]),
        (["plan", "s", "--init", "s"], ["scale=", "split"]),
        (["s", "out", "--dry"], ["--dry-run"]),
        (["s", "out", "--config", "solar-1"], ["solar-10.7b"]),
        (["s", "out", "--config", "job"], ["job.yaml"]),
        (["s", "out", "--workers", ""], [""]),
        (["push", "out", "me/SOLAR", "--create"], ["--create-pr"]),
        (["inspect", "s", "--create"], [""]),
        (["recipes", "yi"], ["yi-9b"]),
        (["completion", ""], ["bash", "fish", "my model", "zsh"]),
    ],
)
def test_bash_offers_what_fits(words: list[str], offered: list[str], tmp_path: Path) -> None:
    (tmp_path / "my model").mkdir()
    (tmp_path / "job.yaml").touch()
    done = subprocess.run(
        ["bash", "-c", completion_script("bash") + TRY, "bash", "solar-upscale", *words],
        cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert (sorted(done.stdout.removesuffix("\n").split("\n")), done.stderr) == (offered, "")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_script_knows_every_command_and_option(shell: str) -> None:
    script = completion_script(shell)
    for command, make in PARSERS.items():
        assert command in script
        for action in make()._actions:
            for option in action.option_strings:
                shown = (
                    option if shell != "fish" else f"-l {option[2:]}" if option.startswith("--") else f"-s {option[1:]}"
                )
                assert shown in script or (shell == "bash" and not option.startswith("--"))


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_script_is_one_that_the_shell_can_read(shell: str, tmp_path: Path) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    (tmp_path / "script").write_text(completion_script(shell))
    done = subprocess.run([shell, "-n", "script"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
