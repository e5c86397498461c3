"""Photographs with poses, in the formats that people have them in."""
