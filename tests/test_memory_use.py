"""Peak memory does not grow with the model: the whole process, on sparse files of two sizes."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from checkpoints import MISTRAL
from sources import tensors_in_order

from solar_upscale.plan.transform import SCALABLE_DTYPES
from solar_upscale.source.header import build_header

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads the peak from /proc")

MIB = 2**20
SMALL, LARGE = 16 * MIB, 144 * MIB

CHILD = """
import sys
sys.path[:0] = [{tests!r}]
from pathlib import Path
from solar_upscale.cli import main
from solar_upscale.source.folder import FolderSource

class Streamed(FolderSource):
    def local_path(self, filename):
        found = super().local_path(filename)
        return None if sys._getframe(1).f_code.co_filename.endswith("execute.py") else found

def job(words):
    if words[0] == "stream":
        import solar_upscale as su
        from solar_upscale.upscale import write_plan
        source = Streamed(Path(words[1]))
        write_plan(su.plan_checkpoint(source, ["0", "0"], init=words[3]), source, Path(words[2]))
    else:
        assert main(words) == 0
try:
    job(sys.argv[1:])
finally:
    status = dict(line.split(":", 1) for line in open("/proc/self/status"))
    print(int(status["VmHWM"].split()[0]), file=sys.stderr)
"""


@pytest.fixture
def roomy(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory where there is room, since disks are slow; a file there is no memory of the process."""
    in_memory = Path("/dev/shm")  # noqa: S108 - a folder of its own is made in it
    use = os.access(in_memory, os.W_OK) and shutil.disk_usage(in_memory).free > 2 * 2**30
    with tempfile.TemporaryDirectory(dir=in_memory if use else tmp_path) as folder:
        yield Path(folder)


def sparse_checkpoint(folder: Path, tensor_nbytes: int, dtype: str = "BF16") -> Path:
    """A layer of two tensors; all zeros, which take no room on the disk."""
    folder.mkdir()
    shape = (tensor_nbytes // SCALABLE_DTYPES[dtype] // 1024, 1024)
    names = ("mlp.down_proj", "self_attn.o_proj")
    tensors = tensors_in_order([(f"model.layers.0.{name}.weight", dtype, shape) for name in names])
    header = build_header(tensors)
    with (folder / "model.safetensors").open("wb") as file:
        file.write(header)
        file.truncate(len(header) + tensors[-1].data_offsets[1])
    (folder / "config.json").write_text(json.dumps({**MISTRAL, "num_hidden_layers": 1}))
    return folder


def peak_nbytes(*words: str) -> int:
    code = CHILD.format(tests=str(Path(__file__).parent))
    result = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=True)
    return 1024 * int(result.stderr.splitlines()[-1])


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
def test_a_factor_takes_the_same_memory_in_each_dtype(dtype: str, roomy: Path) -> None:
    peaks = []
    for nbytes in (SMALL, LARGE):
        source = sparse_checkpoint(roomy / f"s{nbytes}", nbytes, dtype)
        output = roomy / f"out{nbytes}"
        peaks.append(peak_nbytes(str(source), str(output), "--layers", "0", "0", "--init", "scale=0.3,-1.7", "-q"))
        shutil.rmtree(output)
    assert peaks[1] - peaks[0] <= 10 * MIB, [peak // MIB for peak in peaks]
    assert peaks[1] <= 120 * MIB, [peak // MIB for peak in peaks]
