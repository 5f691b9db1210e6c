"""Verify shards and whole outputs.

output.py has the public function, which uses against_source.py or without_source.py; shard.py verifies one shard before
it is published, and compare.py compares streams.
"""
