"""The command line: parses, calls, prints. Results go to stdout, progress and logs to stderr.

Nothing heavy is imported before it is needed, so that --help answers in a blink.
"""

from collections.abc import Sequence

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program and return its exit code: 0 done, 1 a problem, 2 usage, 130 and 143 stopped."""
    try:
        from solar_upscale.cli.program import run
    except KeyboardInterrupt:  # Ctrl-C while modules are read, before anything has begun
        return 130
    return run(argv)
