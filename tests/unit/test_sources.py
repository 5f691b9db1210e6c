"""Each source does what planning and writing ask of one; the one of CONTRIBUTING.md too."""

import shutil
import sys
import types
from pathlib import Path

import pytest

from solar_upscale.source.folder import FolderSource
from solar_upscale.source.protocol import Source
from tests.support.pages import fenced_blocks
from tests.support.processes import ROOT
from tests.support.source_contract import SourceContract
from tests.support.sources import MemorySource


class TestFolder(SourceContract):
    def make(self, folder: Path) -> Source:
        return FolderSource(folder)


class TestMemory(SourceContract):
    def make(self, folder: Path) -> Source:
        return MemorySource.of_folder(folder)


class TestExampleOfThePage(SourceContract):
    @pytest.fixture(autouse=True)
    def _module(self, monkeypatch: pytest.MonkeyPatch) -> None:
        (text,) = (block.text for block in fenced_blocks(ROOT / "CONTRIBUTING.md") if "class ZipSource" in block.text)
        self.module = types.ModuleType("zip_source")
        monkeypatch.setitem(sys.modules, "zip_source", self.module)
        exec(text, self.module.__dict__)  # noqa: S102 - the project's own page

    def make(self, folder: Path) -> Source:
        archive = shutil.make_archive(str(folder), "zip", folder)
        source: Source = self.module.ZipSource(Path(archive))
        return source
