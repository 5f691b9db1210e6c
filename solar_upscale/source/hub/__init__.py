"""A model on the Hub: one commit, its small files from the cache, its weights downloaded or read by ranges.

Which commit is meant is opening.py, which files it has listing.py, how ranges are read ranges.py, the source itself
model.py; how the Hub is talked to at all, for publishing too, is client.py. What a file means is not known here, except
that weights are not small.
"""
