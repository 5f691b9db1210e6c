"""Peak memory does not grow with the model: the whole process, on sparse files of two sizes."""

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.peak_memory import MIB, peak_nbytes, sparse_checkpoint

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads the peak from /proc")

SMALL, LARGE = 16 * MIB, 144 * MIB


@pytest.fixture
def roomy(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory where there is room, since disks are slow; a file there is no memory of the process."""
    in_memory = Path("/dev/shm")  # noqa: S108 - a folder of its own is made in it
    use = os.access(in_memory, os.W_OK) and shutil.disk_usage(in_memory).free > 2 * 2**30
    with tempfile.TemporaryDirectory(dir=in_memory if use else tmp_path) as folder:
        yield Path(folder)


@pytest.mark.parametrize("init", ["copy", "identity", "split"])
@pytest.mark.parametrize("way", ["local", "stream"])
def test_peak_memory_does_not_grow_with_the_tensors(init: str, way: str, roomy: Path) -> None:
    peaks = []
    for nbytes in (SMALL, LARGE):
        source = sparse_checkpoint(roomy / f"s{nbytes}", nbytes)
        output = str(roomy / f"out{nbytes}")
        if way == "local":
            written = peak_nbytes(str(source), output, "--layers", "0", "0", "--init", init, "-q")
            verified = max(
                peak_nbytes("verify", output, "--source", str(source), "-q"), peak_nbytes("verify", output, "-q")
            )
            peaks.append((written, verified))
        else:
            peaks.append((peak_nbytes("stream", str(source), output, init),))
        shutil.rmtree(output)
    for small, large in zip(*peaks, strict=True):
        assert large - small <= 10 * MIB, [[peak // MIB for peak in each] for each in peaks]
        assert large <= 120 * MIB, [[peak // MIB for peak in each] for each in peaks]


@pytest.mark.parametrize("dtype", ["F16", "F32"])
def test_peak_memory_of_a_factor_does_not_grow_in_any_dtype(dtype: str, roomy: Path) -> None:
    peaks = []
    for nbytes in (SMALL, LARGE):
        source = sparse_checkpoint(roomy / f"s{nbytes}", nbytes, dtype)
        output = roomy / f"out{nbytes}"
        peaks.append(peak_nbytes(str(source), str(output), "--layers", "0", "0", "--init", "scale=0.3,-1.7", "-q"))
        shutil.rmtree(output)
    assert peaks[1] - peaks[0] <= 10 * MIB, [peak // MIB for peak in peaks]
    assert peaks[1] <= 120 * MIB, [peak // MIB for peak in peaks]
