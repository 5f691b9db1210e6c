"""The errors that callers may catch. Every message is one line: where, what is wrong, and the next step.

UpscaleError
|-- PatternError        the pattern is malformed or does not fit the model
|-- CheckpointError     a file is missing, truncated, or breaks the format
|-- UnsupportedError    a sound checkpoint whose depth cannot be changed truthfully
|-- OutputError         the output folder holds something the plan would overwrite, or cannot be written
`-- HubError            the Hub refused; keeps the original as __cause__
"""

__all__ = [
    "CheckpointError",
    "HubError",
    "OutputError",
    "PatternError",
    "UnsupportedError",
    "UpscaleError",
    "UpscaleWarning",
    "printable",
]


def printable(text: str) -> str:
    """Return ``text`` with every character that could control a terminal replaced by its escape.

    Messages quote names from untrusted files, so they are escaped here, in every message.
    """
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text)


# Messages quote names and values from files, which may be megabytes long.
_MAX_MESSAGE_LENGTH = 2000


class UpscaleError(Exception):
    """A problem with the input or the world, reported in one printable line of bounded length."""

    def __init__(self, message: str) -> None:
        if len(message) > _MAX_MESSAGE_LENGTH:
            message = f"{message[: _MAX_MESSAGE_LENGTH // 2]} ... {message[-_MAX_MESSAGE_LENGTH // 2 :]}"
        super().__init__(printable(message))


class PatternError(UpscaleError):
    """The layer pattern is malformed or does not fit the model."""


class CheckpointError(UpscaleError):
    """A checkpoint file is missing, truncated, or breaks its format."""


class UnsupportedError(UpscaleError):
    """A sound checkpoint whose depth cannot be changed truthfully."""


class OutputError(UpscaleError):
    """The output cannot be written, or holds something that would be overwritten."""


class HubError(UpscaleError):
    """The Hub refused; the client's own exception is the ``__cause__``."""


class UpscaleWarning(UserWarning):
    """What is known to make a model worse, by measurement, and what was assumed of it."""
