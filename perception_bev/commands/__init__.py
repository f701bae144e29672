"""Commands: one file per `bev` verb; each parses, calls one function and prints."""
