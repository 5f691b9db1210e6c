"""The ways in which configs say something about each layer, one class each.

None of them knows a model type: which type uses which is families/. What they have in common is rules.py. A job loads
common.py, and the others where the family of its model needs them.
"""
