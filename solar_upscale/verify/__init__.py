"""Outputs and single shards, proved against their plan and their source."""
