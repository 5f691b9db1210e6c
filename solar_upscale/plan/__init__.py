"""The plan as a value, and how it is made. Nothing here opens tensor data."""
