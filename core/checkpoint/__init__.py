"""LandMark checkpoints: reading every layout and describing them."""
