"""The ways in which configs describe each layer, one class each.

None of them refers to a model type: families/ says which type uses which. Their protocol is in attribute.py. Every job
loads common.py; the others are loaded only if the model's family uses them.
"""
