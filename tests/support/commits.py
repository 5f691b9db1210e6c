"""A small job that writes and publishes files like an upscale, for tests of the commit, in this process or another."""

from pathlib import Path

from solar_upscale.write import commit

__all__ = ["Tree", "files_for", "names", "run", "tree"]

Tree = dict[str, bytes]


def files_for(state: str) -> Tree:
    """The files that a job writes. Only the later bytes differ between states of the source."""
    return {
        "model-00001-of-00002.safetensors": b"header-1" + state.encode() * 10,
        "model-00002-of-00002.safetensors": b"header-2" + state.encode() * 20,
        "sub/dir/tokenizer.model": b"words of " + state.encode(),
        "config.json": b'{"state": "%s"}' % state.encode(),
    }


def tree(path: Path) -> Tree:
    return {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()}


def names(path: Path) -> list[str]:
    return [child.name for child in path.iterdir()]


def run(root: Path, *, state: str = "A", job: str = "job", overwrite: bool = False) -> list[str]:
    """Write and publish files as upscale_checkpoint does; returns the names of the files it wrote."""
    output = root / "out"
    files = files_for(state)
    if output.is_dir() and tree(output) == files:
        commit.remove_leftovers(output, job=job)
        return []
    written = []
    with commit.unfinished(output, job=job, state=state, overwrite=overwrite) as work:
        for name, data in files.items():
            if not commit.has_file(work.folder, name, len(data), data[:8]):
                commit.write_bytes(work.folder, name, data)
                written.append(name)
        work.publish(files)
    return written
