"""The peak memory of a whole process, on checkpoints that take no room on the disk."""

import json
import subprocess
import sys
from pathlib import Path

from solar_upscale.plan.transform import SCALABLE_DTYPES
from solar_upscale.source.header import build_header
from tests.support.checkpoints import MISTRAL
from tests.support.processes import environment
from tests.support.sources import tensors_in_order

__all__ = ["MIB", "peak_nbytes", "sparse_checkpoint"]

MIB = 2**20

CHILD = """
import sys
from pathlib import Path
from solar_upscale.cli import main
from solar_upscale.source.folder import FolderSource, read_local

class Streamed(FolderSource):
    def local_path(self, filename):
        return None

    def stream(self, filename, start, stop):
        return read_local(self.path / filename, filename, start, stop)

def job(words):
    if words[0] == "stream":
        import solar_upscale as su
        from solar_upscale.verify.shard import check_shard
        from solar_upscale.write.output import open_output
        source = Streamed(Path(words[1]))
        plan = su.plan_checkpoint(source, ["0", "0"], init=words[3])
        with open_output(plan, source, Path(words[2])) as work:
            for planned, shard in zip(plan.shards, work.shards(), strict=True):
                assert shard.digests is not None
                check_shard(planned, shard.path, source, shard.digests)
            work.finish()
    else:
        assert main(words) == 0
try:
    job(sys.argv[1:])
finally:
    status = dict(line.split(":", 1) for line in open("/proc/self/status"))
    print(int(status["VmHWM"].split()[0]), file=sys.stderr)
"""


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
    result = subprocess.run(
        [sys.executable, "-c", CHILD, *words], capture_output=True, text=True, check=True, env=environment()
    )
    return 1024 * int(result.stderr.splitlines()[-1])
