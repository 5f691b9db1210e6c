"""Publish a finished folder on the Hub, or shard by shard while it is being made.

Large files go ahead, one by one; the one commit that makes them visible comes last and names the commit that it
stands on, so nothing half-published is ever on a branch. What is uploaded ahead is kept by the Hub without being
visible: a push that was stopped sends it no second time. A publication in progress is publication.py, what is
remembered of it record.py, a folder as a whole folder.py. What a checkpoint must hold is checkpoint.py, whether its
bytes are right is verify.py.
"""

from solar_upscale.push.folder import push_folder
from solar_upscale.push.publication import Publication
from solar_upscale.push.record import RECORD_NAME, SentFile

__all__ = ["RECORD_NAME", "Publication", "SentFile", "push_folder"]
