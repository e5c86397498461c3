"""The radiance field and everything done to it: tensors in, tensors out."""
