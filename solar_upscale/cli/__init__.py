"""The command line: parses, calls, prints. Results go to stdout, progress and logs to stderr.

Nothing heavy is imported before it is needed, so that --help answers in a blink.
"""

from solar_upscale.cli.program import main

__all__ = ["main"]
