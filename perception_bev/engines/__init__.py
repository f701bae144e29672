"""Engines: one compiled network file each, behind one protocol; a vendor a file, imported late."""
