"""A model on the Hub, pinned to one commit: small files come from the cache, weights are downloaded or streamed.

``opening`` resolves a revision to a commit, ``listing`` lists its files, ``ranges`` reads byte ranges, ``model`` is the
source, and ``client`` has the retries and errors that publishing shares. File contents are not interpreted here;
weights are recognised by suffix alone.
"""
