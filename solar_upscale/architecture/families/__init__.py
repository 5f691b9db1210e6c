"""The records of all model types that need one, in files by family.

Each file defines ``TYPES``, a tuple of ModelType. To add a model type, add a record to a file, or add a file; the
registry finds it. Types without anything special are in generated.py.
"""
