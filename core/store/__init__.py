"""Block store: a field on disk, block by block, in the order in which the kernels read it."""
