"""The command line: parses arguments, calls the library, prints reports. Results go to stdout, progress to stderr.

Nothing heavy is imported before it is needed, so that --help is instant.
"""

from collections.abc import Sequence

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program and return its exit code: 0 success, 1 error, 2 usage, 130 and 143 interrupted."""
    try:
        from solar_upscale.cli.program import run
    except KeyboardInterrupt:  # Ctrl-C during the imports
        return 130
    return run(argv)
