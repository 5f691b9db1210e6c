"""Run and measure the program in its own process: started as by a user, or forked from one with its modules loaded.

A process begins with the peak memory of the one that starts it, which for pytest is far more than the program's own.
So a small process stands between, and since it has imported the program already, a fork of it skips the start-up.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.processes import environment

__all__ = ["Program", "Run", "running_program"]

_STARTER = """
import json, os, subprocess, sys, time, traceback
import solar_upscale.cli.commands, solar_upscale.cli.program, solar_upscale.upscale, solar_upscale.verify.output

def forked(words, folder, out, err):
    pid = os.fork()
    if pid:
        return pid
    code = 70
    try:
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0), os.dup2(out.fileno(), 1), os.dup2(err.fileno(), 2)
        os.chdir(folder)
        code = solar_upscale.cli.main(words)
        sys.stdout.flush(), sys.stderr.flush()
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)

def started(words, folder, out, err):
    command = [sys.executable, "-m", "solar_upscale", *words]
    return subprocess.Popen(command, cwd=folder, stdin=subprocess.DEVNULL, stdout=out, stderr=err).pid

for line in sys.stdin:
    kind, words, folder = json.loads(line)
    with open(folder + ".out", "w+b") as out, open(folder + ".err", "w+b") as err:
        child = {"forked": forked, "started": started}[kind](words, folder, out, err)
        deadline = time.monotonic() + 60
        while not (ended := os.wait4(child, os.WNOHANG))[0]:
            time.sleep(0.002)
            if time.monotonic() > deadline:
                os.kill(child, 9)
        _, status, used = ended
        out.seek(0), err.seek(0)
        print(json.dumps([os.waitstatus_to_exitcode(status), out.read().decode(), err.read().decode(),
                          used.ru_utime + used.ru_stime, used.ru_maxrss]), flush=True)
"""


@dataclass(frozen=True, slots=True)
class Run:
    """How a run of the program ended, the CPU seconds that it used, and its peak memory in KiB."""

    code: int
    out: str
    err: str
    seconds: float
    peak_kib: int


@dataclass(frozen=True, slots=True)
class Program:
    """Runs the program in a folder; its output is also saved beside that folder."""

    starter: "subprocess.Popen[str]"

    def started(self, words: tuple[str, ...], folder: Path) -> Run:
        """A run of ``python -m solar_upscale``, as a user starts it."""
        return self._run("started", words, folder)

    def forked(self, words: tuple[str, ...], folder: Path) -> Run:
        """The same without the start-up: a forked process in which the modules are already loaded."""
        return self._run("forked", words, folder)

    def _run(self, *job: Any) -> Run:
        assert self.starter.stdin is not None
        assert self.starter.stdout is not None
        self.starter.stdin.write(json.dumps(job, default=str) + "\n")
        self.starter.stdin.flush()
        return Run(*json.loads(self.starter.stdout.readline()))


@contextmanager
def running_program() -> Iterator[Program]:
    """The small process that starts the others, until the context exits."""
    command = [sys.executable, "-c", _STARTER]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment()
    ) as starter:
        yield Program(starter)
        assert starter.stdin is not None
        starter.stdin.close()
