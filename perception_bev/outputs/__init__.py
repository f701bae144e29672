"""Outputs: heat maps and boxes, suppression, tracks, drawing."""
