"""What is on disk: scene files and LandMark configs."""
