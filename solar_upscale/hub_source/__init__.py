"""A model on the Hub as a Source: one commit, its small files from the cache, its weights downloaded or by ranges.

An id is resolved once; every byte comes from the commit that it stood for then. How that is done is opening.py, which
files there are listing.py, how ranges are read ranges.py, and the source itself model.py. What a file means is not
known here, except that weights are not small files.
"""

from solar_upscale.hub_source.model import HubSource
from solar_upscale.hub_source.opening import open_source

__all__ = ["HubSource", "open_source"]
