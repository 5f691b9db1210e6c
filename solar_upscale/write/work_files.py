"""Names of files that a work folder may hold in addition to those of the plan."""

__all__ = ["DIGESTS_SUFFIX", "RECORD_NAME", "RUNNING_NAME"]

# The record of uploads, if shards are deleted once they are on the Hub; it becomes part of the output.
RECORD_NAME = ".published.json"

# Workers keep writing only while this file exists.
RUNNING_NAME = ".running"

# Suffix of the hidden file with the digests of a streamed shard.
DIGESTS_SUFFIX = ".sha256.json"
