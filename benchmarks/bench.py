"""``make bench``: this program beside cp, safetensors, transformers and mergekit, on the same work, in one run.

Prints ratios, and writes docs/benchmarks.md, its plot and a table of README.md. Needs Linux; XFS and btrfs
need root; takes about 12 GB of disk at most and gives all of it back.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.contenders import CONTENDERS, Contender, Job
from benchmarks.marked import write_marked
from benchmarks.measure import (
    Sample,
    file_system,
    machine,
    median,
    run,
    settle,
    shared_fraction,
    touch_memory,
    used_nbytes,
)
from benchmarks.mounts import loop_mount, why_not
from benchmarks.page import SIDE_BY_SIDE, Line, Page, Promise, Scaling, Table, short_table, write_page

PROGRAM = (sys.executable, "-m", "solar_upscale")
PROJECT = Path(__file__).resolve().parent.parent
OURS, CP = CONTENDERS[:2]

# Layers, hidden, inner and vocabulary size of a Mistral-type source.
Sizes = tuple[int, int, int, int]
MAIN: Sizes = (16, 2048, 7168, 32000)
QUICK: Sizes = (16, 512, 1792, 8000)
# 0.25, 1 and 4 GB of tensors of the same sizes, so that nothing but their number grows.
GROWING: Sequence[Sizes] = ((8, 1024, 3584, 8192), (36, 1024, 3584, 8192), (146, 1024, 3584, 8192))
QUICK_GROWING: Sequence[Sizes] = ((8, 256, 896, 2048), (36, 256, 896, 2048))
# 1 GB of tensors small enough to be cut into 163 shards.
MANY: Sizes = (140, 512, 1792, 2048)
SHARDS = (1, 4, 16, 64, 163)

# The source and the largest output of another tool, and room to spare; the image is sparse.
IMAGE_NBYTES = 14 * 2**30

GIANTS = (
    ("Llama-3.1-405B shape, 191 shards, 1,137 tensors", "llama_405b", 191, ("0:100", "26:126")),
    ("DeepSeek-V3 shape, 163 shards, 91,991 tensors", "deepseek_v3", 163, ("0:50", "30:61")),
)


def main() -> None:
    """Measure all that this machine allows, print it, and write the page."""
    options = _options()
    os.chdir(PROJECT)  # where `python -m benchmarks.x` is found
    Path(options.work).mkdir(parents=True, exist_ok=True)
    load = f"load average {os.getloadavg()[0]:.1f} when it began"
    page = Page(f"{machine()}; {load}" + (f", run at niceness {os.nice(0)}" if os.nice(0) else ""))
    with tempfile.TemporaryDirectory(prefix="run-", dir=Path(options.work).resolve()) as name:
        scratch = Path(name)
        bench = Bench(options, page)
        bench.start_up()
        bench.giants(scratch)
        place = Place(file_system(scratch), scratch / "work", alone=False)
        bench.at_hand(place)
        for kind in ("xfs", "btrfs"):
            reason = why_not(kind)
            if reason:
                page.notes.append(f"{kind} was left out: {reason}.")
                continue
            with loop_mount(kind, scratch, IMAGE_NBYTES) as mounted:
                bench.where_blocks_are_shared(Place(kind, mounted / "work", alone=True), scratch)
    print(page.promises_text())
    if options.page:
        write_page(page, PROJECT / "docs")
        write_marked(PROJECT / "README.md", "bench", short_table(page))


@dataclass(frozen=True, slots=True)
class Place:
    """A folder to work in. ``alone`` says that nobody else writes to its file system, so that its blocks tell."""

    kind: str
    folder: Path
    alone: bool


@contextmanager
def cleared(place: Place) -> Iterator[None]:
    """The place's folder exists within, and is gone and given back afterwards."""
    place.folder.mkdir()
    try:
        yield
    finally:
        shutil.rmtree(place.folder)
        settle(place.folder.parent)


class Bench:
    """How often to measure, and the page that the figures go to."""

    def __init__(self, options: argparse.Namespace, page: Page) -> None:
        self.rounds: int = options.rounds
        self.slow_rounds: int = options.slow_rounds
        self.quick: bool = options.quick
        self.page = page
        self.contenders = [each for each in CONTENDERS if not any(word in each.name for word in options.without)]
        self.start_ups: dict[str, Sample] = {}

    # ------------------------------------------------------------ the parts

    def start_up(self) -> None:
        """What it costs to be asked for help, and to import what the work imports."""
        commands = {
            "python, doing nothing": (sys.executable, "-c", "pass"),
            "solar-upscale --help": (*PROGRAM, "--help"),
            **{each.name: each.start_up() for each in self.contenders},
        }
        for command in commands.values():
            run(command)  # once, so that compiled modules and the files' contents are at hand
        taken = self._in_turn({name: lambda command=command: run(command) for name, command in commands.items()})
        self.start_ups = {name: median(samples) for name, samples in taken.items()}
        self._promise("solar-upscale --help: CPU ms", 100, 1000 * self.start_ups["solar-upscale --help"].cpu)
        self._table("Start-up", taken, ("cpu", "wall", "peak", "rounds"))

    def giants(self, scratch: Path) -> None:
        """Plans of the largest published shapes, the whole process."""
        taken = {}
        for what, name, shards, entries in GIANTS:
            make(scratch / name, name, shards)
            command = (*PROGRAM, "plan", str(scratch / name), "--layers", *entries)
            taken[what] = [run(command) for _ in range(self.rounds)]
            shutil.rmtree(scratch / name)
        llama, deepseek = map(median, taken.values())
        self._promise("plan of the Llama-3.1-405B shape: s", 1.5, llama.wall)
        self._promise("plan of the DeepSeek-V3 shape: s", 5, deepseek.wall)
        self._promise("plan of the DeepSeek-V3 shape: MiB", 300, deepseek.peak / 2**20)
        said = "Real headers, config and index; sparse files of the real sizes. The whole process."
        self._table("Plans of giants", taken, ("wall", "cpu", "peak", "rounds"), said)

    def at_hand(self, place: Place) -> None:
        """On the file system at hand: side by side, changed tensors, verify, scaling."""
        with cleared(place):
            job = self._job(place, QUICK if self.quick else MAIN, 4)
            lines = self._side_by_side(place, job, self.contenders)
            ours = lines[0]
            self._promise(f"{place.kind}: wall, times cp -r", 1.15, float(ours.more["wall / cp"]))
            self._promise(
                f"{place.kind}: CPU beyond start-up, times cp -r", 1.2, float(ours.more["CPU beyond start-up / cp"])
            )
            self._promise(f"{place.kind}: peak MiB", 80, ours.sample.peak / 2**20)
            self._against_mergekit(place, lines, faster=5, smaller=15)
            self._changed(place, job)
            self._verified(place, job)
        with cleared(place):
            self._scaling(place)

    def where_blocks_are_shared(self, place: Place, elsewhere: Path) -> None:
        """On a file system that can share blocks: side by side, what was shared, other sources, scaling."""
        slow = place.kind == "xfs"
        with cleared(place):
            job = self._job(place, QUICK if self.quick else MAIN, 4)
            lines = self._side_by_side(place, job, [each for each in self.contenders if slow or not each.slow])
            ours = lines[0].sample
            self._promise(f"{place.kind}: whole process, s", 0.4, ours.wall)
            self._promise(f"{place.kind}: bytes shared, %", 99.9, 100 * shared_fraction(job.result), at_least=True)
            self._promise(f"{place.kind}: new blocks, MiB", 1, ours.blocks / 2**20)
            self._against_mergekit(place, lines, faster=50, smaller=15)
            self._other_sources(place, job, elsewhere)
        if slow:
            with cleared(place):
                self._scaling(place)

    # ------------------------------------------------------------ measurements

    def _side_by_side(self, place: Place, job: Job, contenders: Sequence[Contender]) -> list[Line]:
        """The same job done in every way, in turn."""
        run(OURS.command(replace(job, output=job.result)))
        run((sys.executable, "-m", "benchmarks.check_tensors", str(job.source), str(job.result), _comma(job.layers)))
        taken: dict[str, list[Sample]] = {each.name: [] for each in contenders}
        for number in range(self.rounds):
            for each in contenders if number % 2 else contenders[::-1]:
                if number < (self.slow_rounds if each.slow else self.rounds):
                    taken[each.name].append(self._once(place, each, job))
        more = {name: self._compared(name, taken) for name in taken}
        lines = [Line(name, median(samples), len(samples), more[name]) for name, samples in taken.items()]
        before, after = (_weights_nbytes(folder) for folder in (job.source, job.result))
        said = (
            f"{before / 1e9:.2f} GB in 4 shards become {after / 1e9:.2f} GB, {job.source_layers} layers become "
            f"{len(job.layers)}. Every tensor of the result was read with the safetensors library and has the bytes of "
            "its source tensor."
        )
        if place.alone:
            said += f" {100 * shared_fraction(job.result):.4f}% of the result's bytes are shared with the source."
            said += " cp shares blocks here too, but it needs a finished result to copy."
        columns = ("wall", "cpu", "peak", "written", "blocks", "rounds", *more[OURS.name])
        self._add(Table(f"{SIDE_BY_SIDE}{place.kind}", lines, columns, said))
        return lines

    def _compared(self, name: str, taken: Mapping[str, Sequence[Sample]]) -> dict[str, str]:
        """Ratios to cp and to ours: the median over the rounds that both ran."""
        found = {}
        samples = taken[name]
        if CP.name in taken:
            found["wall / cp"] = f"{_ratio(samples, taken[CP.name], lambda sample: sample.wall):.2f}"
            beyond = median(samples).cpu - self.start_ups[name].cpu
            copying = median(taken[CP.name]).cpu - self.start_ups[CP.name].cpu
            found["CPU beyond start-up / cp"] = f"{beyond / copying:.2f}"
        found["wall / ours"] = f"{_ratio(samples, taken[OURS.name], lambda sample: sample.wall):.2f}"
        found["peak / ours"] = f"{_ratio(samples, taken[OURS.name], lambda sample: sample.peak):.1f}"
        return found

    def _against_mergekit(self, place: Place, lines: Sequence[Line], *, faster: float, smaller: float) -> None:
        for line in lines:
            if line.what.startswith("mergekit"):
                self._promise(
                    f"{place.kind}: mergekit's time, times ours", faster, float(line.more["wall / ours"]), at_least=True
                )
                self._promise(
                    f"{place.kind}: mergekit's memory, times ours",
                    smaller,
                    float(line.more["peak / ours"]),
                    at_least=True,
                )

    def _changed(self, place: Place, job: Job) -> None:
        """Tensors that are computed or zero, beside plain copies."""
        starts = {"--init copy": (), "--init identity": ("--init", "identity"), "--init split": ("--init", "split")}
        taken = self._in_turn(
            {name: lambda words=words: self._once(place, OURS, job, *words) for name, words in starts.items()}
            | {"python and numpy alone": lambda: run((sys.executable, "-c", "import numpy"))}
        )
        split, alone = median(taken["--init split"]), median(taken["python and numpy alone"])
        copy = taken["--init copy"]
        self._promise("--init split: wall, times copying", 2, _ratio(taken["--init split"], copy, lambda s: s.wall))
        self._promise("--init split: peak MiB beyond python and numpy", 120, (split.peak - alone.peak) / 2**20)
        self._table(f"Changed tensors on {place.kind}", taken, ("wall", "cpu", "peak", "blocks", "rounds"))

    def _verified(self, place: Place, job: Job) -> None:
        """Verify, beside reading the same bytes."""
        files = f"{job.source}/*.safetensors {job.result}/*.safetensors"
        taken = self._in_turn(
            {
                "verify --source": lambda: run((*PROGRAM, "verify", str(job.result), "--source", str(job.source))),
                "verify": lambda: run((*PROGRAM, "verify", str(job.result))),
                "cat of source and result": lambda: run(("sh", "-c", f"cat {files} > /dev/null")),
            }
        )
        self._promise("verify --source: peak MiB", 120, median(taken["verify --source"]).peak / 2**20)
        self._table(f"Verify on {place.kind}", taken, ("wall", "cpu", "peak", "rounds"))

    def _other_sources(self, place: Place, job: Job, elsewhere: Path) -> None:
        """A source in the form of a Hub cache is cloned too; one on another file system is copied."""
        snapshot = _as_hub_cache(job.source, place.folder)
        far = elsewhere / "far"
        make(far, "mistral", 4, *QUICK)
        lines = []
        for what, source in (("Hub cache: symlinks into blobs", snapshot), ("on another file system", far)):
            sample = self._once(place, OURS, replace(job, source=source), keep=True)
            shared = 100 * shared_fraction(job.output)
            lines.append(Line(what, sample, 1, {"shared %": f"{shared:.3f}"}))
            shutil.rmtree(job.output)
        shutil.rmtree(far)
        said = "The second source is a small one; it shows that copying takes over."
        self._add(Table(f"Other sources on {place.kind}", lines, ("wall", "peak", "blocks", "shared %"), said))

    def _scaling(self, place: Place) -> None:
        """Time and memory over the size of the source and over its number of shards."""
        taken: dict[str, list[Sample]] = {}
        points = []
        for sizes in QUICK_GROWING if self.quick else GROWING:
            nbytes, samples = self._scaled(place, sizes, 4)
            taken[f"{nbytes / 1e9:.2f} GB, 4 shards"] = samples
            points.append((nbytes, median(samples)))
        for count in () if self.quick else SHARDS:
            nbytes, samples = self._scaled(place, MANY, count)
            taken[f"{nbytes / 1e9:.2f} GB, {count} shards"] = samples
        peaks = [sample.peak for _, sample in points]
        self._promise(
            f"{place.kind}: peak of the largest less the smallest source's, MiB", 10, (max(peaks) - min(peaks)) / 2**20
        )
        said = "Runs of less than 64 MiB get no shard of their own, so of shards below that size some bytes are copied."
        self._table(f"Scaling on {place.kind}", taken, ("wall", "cpu", "peak", "blocks", "rounds"), said)
        self.page.scaling.append(Scaling(place.kind, points))

    def _scaled(self, place: Place, sizes: Sizes, shards: int) -> tuple[int, list[Sample]]:
        job = self._job(place, sizes, shards)
        nbytes = _weights_nbytes(job.source)
        samples = [self._once(place, OURS, job) for _ in range(self.rounds)]
        shutil.rmtree(job.source)
        return nbytes, samples

    # ------------------------------------------------------------ one run, one table

    def _job(self, place: Place, sizes: Sizes, shards: int) -> Job:
        """A new source on disk, and the job that uses its first and its last three quarters."""
        layers = sizes[0]
        source = place.folder / "source"
        make(source, "mistral", shards, *sizes)
        settle(place.folder)
        part = layers * 3 // 4
        spans = (range(part), range(layers - part, layers))
        return Job(
            source,
            place.folder / "output",
            place.folder / "result",
            layers,
            tuple(layer for span in spans for layer in span),
            tuple(f"{span.start}:{span.stop}" for span in spans),
        )

    def _once(self, place: Place, contender: Contender, job: Job, *words: str, keep: bool = False) -> Sample:
        """One run from a settled disk; the output is removed again."""
        command = (*contender.command(job), *words)
        settle(place.folder)
        before = used_nbytes(place.folder, whole_file_system=True) if place.alone else 0
        touch_memory(2 * _weights_nbytes(job.source))
        sample = run(command)
        seen = place.folder if place.alone else job.output
        blocks = used_nbytes(seen, whole_file_system=place.alone) - before
        if not keep:
            shutil.rmtree(job.output)
        print(f"  {place.kind}: {contender.name} {' '.join(words)}: {sample.wall:.2f} s", file=sys.stderr, flush=True)
        return replace(sample, blocks=blocks)

    def _in_turn(self, ways: Mapping[str, Callable[[], Sample]]) -> dict[str, list[Sample]]:
        taken: dict[str, list[Sample]] = {name: [] for name in ways}
        for _ in range(self.rounds):
            for name, once in ways.items():
                taken[name].append(once())
        return taken

    def _promise(self, what: str, bound: float, measured: float, *, at_least: bool = False) -> None:
        self.page.promises.append(Promise(what, bound, measured, at_least))

    def _table(self, title: str, taken: Mapping[str, Sequence[Sample]], columns: Sequence[str], said: str = "") -> None:
        lines = [Line(what, median(samples), len(samples)) for what, samples in taken.items()]
        self._add(Table(title, lines, columns, said))

    def _add(self, table: Table) -> None:
        self.page.tables.append(table)
        print(table.text(), flush=True)


def make(folder: Path, name: str, shards: int, *sizes: int) -> None:
    """Make a source in a process of its own: a child's peak memory counts from its parent's, which stays small so."""
    command = (sys.executable, "-m", "benchmarks.sources", str(folder), name, str(shards), *map(str, sizes))
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def _as_hub_cache(source: Path, folder: Path) -> Path:
    """Move a source into the form of a Hub cache, and return its snapshot."""
    snapshot = folder / "models--user--name" / "snapshots" / ("0" * 40)
    blobs = snapshot.parent.parent / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for number, path in enumerate(sorted(source.iterdir())):
        path.rename(blobs / f"{number:064d}")
        (snapshot / path.name).symlink_to(Path("../../blobs") / f"{number:064d}")
    return snapshot


def _weights_nbytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("*.safetensors"))


def _ratio(samples: Sequence[Sample], base: Sequence[Sample], figure: Callable[[Sample], float]) -> float:
    return statistics.median(figure(one) / figure(other) for one, other in zip(samples, base, strict=False))


def _comma(layers: Sequence[int]) -> str:
    return ",".join(map(str, layers))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench", description="see benchmarks/bench.py")
    parser.add_argument("--quick", action="store_true", help="small sources, two rounds, no page: does it all run?")
    parser.add_argument("--rounds", type=int, default=5, help="runs of each way (default: 5)")
    parser.add_argument("--slow-rounds", type=int, default=5, help="runs of transformers and mergekit (default: 5)")
    parser.add_argument("--without", nargs="*", default=[], metavar="WORD", help="leave out ways, such as mergekit")
    parser.add_argument("--work", default="build/bench", metavar="DIR", help="where to work (default: build/bench)")
    parser.add_argument("--no-page", dest="page", action="store_false", help="print only")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.slow_rounds, options.page = min(options.rounds, 2), 1, False
    return options


if __name__ == "__main__":
    main()
