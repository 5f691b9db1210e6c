"""Names of files that a work folder may hold beside those of the plan."""

__all__ = ["DIGESTS_SUFFIX", "RECORD_NAME", "WANTED_NAME"]

# What was uploaded of an output whose shards are deleted once they are on the Hub; it becomes part of that output.
RECORD_NAME = ".published.json"

# While it is there, workers go on.
WANTED_NAME = ".wanted"

# Ends the name of the hidden file that keeps the digests of a streamed shard.
DIGESTS_SUFFIX = ".sha256.json"
