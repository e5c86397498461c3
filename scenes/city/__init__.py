"""A procedural town with exact pictures of it, to train and to test on."""
