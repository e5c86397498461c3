"""The font of the interface: Inter with Tabler icons merged in, and the table of its icons."""
