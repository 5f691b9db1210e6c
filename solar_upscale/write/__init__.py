"""Carry a plan out: bytes become shards, shards become a folder, and one rename makes it OUT. Nothing is decided here.

output.py is the road from a plan to OUT, passes.py runs its passes, shards.py and streamed.py write what a pass holds,
move.py moves bytes, and commit/ keeps the unfinished folder.
"""
