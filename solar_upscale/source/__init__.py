"""Where bytes come from: a folder or the Hub, the headers of its weight files, and all of it as a ``Checkpoint``."""
