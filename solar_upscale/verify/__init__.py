"""Prove shards and whole outputs right.

output.py is the public function, against_source.py and by_itself.py are its two ways, shard.py proves one shard before
it is published, and compare.py compares streams.
"""
