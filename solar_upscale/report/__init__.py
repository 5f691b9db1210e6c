"""The files that describe an output, and the reports that commands print: rendered from values, printed elsewhere."""
