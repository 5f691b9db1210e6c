"""Where passes run: this thread, several threads, or a Dask cluster."""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from solar_upscale.errors import OutputError

__all__ = ["passes_executor"]


@contextmanager
def passes_executor(options: argparse.Namespace) -> Iterator[Any]:
    """The executor that runs the passes: a cluster, a thread pool, or None for this thread."""
    if options.dask is not None:
        with _cluster(options.dask) as executor:
            yield executor
    elif options.workers > 1:
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(options.workers) as executor:
            yield executor
    else:
        yield None


@contextmanager
def _cluster(address: str) -> Iterator[Any]:
    """A Dask cluster as an executor. Dask replaces a worker that dies; repeated deaths are an error."""
    try:
        from distributed import Client, KilledWorker
    except ImportError as error:
        raise OutputError("--dask: Dask is not installed; run in the checkout: pip install '.[dask]'") from error
    try:
        client = Client(address)
    except (OSError, ValueError) as error:
        raise OutputError(f"--dask {address}: cannot connect to the scheduler: {error}") from error
    try:
        with client:
            yield client.get_executor()
    except KilledWorker as error:
        raise OutputError(f"--dask {address}: workers keep dying; run the same command again to resume") from error
