"""Writes a plan: bytes become shards, shards fill a folder, and one rename makes it OUT. Nothing is decided here.

output.py leads from a plan to OUT, passes.py runs the passes, shards.py and streamed.py write the shards of a pass,
move.py moves bytes, and commit/ manages the unfinished folder.
"""
