"""Edits: layers as data, what they mean for a sample, and how buildings are found and grounds are patched."""
