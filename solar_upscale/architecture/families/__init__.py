"""The model types that are known, one record each, in files by family.

A file here holds ``TYPES``, a tuple of ModelType. Adding a model type is adding one record to one of them, or a file
with one; the registry finds it. Types that a record says nothing special of are in generated.py.
"""
