"""Parts of a Markdown page that a command writes: between two marks that name it, and nowhere else."""

from pathlib import Path

__all__ = ["write_marked"]


def write_marked(page: Path, target: str, text: str) -> None:
    """Put text between the marks of ``make target``.

    Raises:
        ValueError: the page has no such marks.
    """
    begin, end = f"<!-- measured by make {target} -->", f"<!-- end of make {target} -->"
    head, found, rest = page.read_text("utf-8").partition(begin)
    _, ended, tail = rest.partition(end)
    if not found or not ended:
        raise ValueError(f"{page}: the marks of make {target} are missing; expected {begin}")
    page.write_text(f"{head}{begin}\n\n{text.strip()}\n\n{end}{tail}", "utf-8")
