"""Streaming: which blocks of a field are in memory, and who sees to it."""
