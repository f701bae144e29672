"""Latency: what happened when, what it costs, what is still possible. Pure: time is an argument."""
