"""Sim: a made-up world that gives what a vehicle gives, and faults for streams of messages."""
