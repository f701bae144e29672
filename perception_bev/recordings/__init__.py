"""Recordings: bags, data sets and simulated drives, all read as indexable samples."""
