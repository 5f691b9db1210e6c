"""Carry a plan out: passes, movers, the unfinished folder and its commit."""
