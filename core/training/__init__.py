"""Training a GridNeRF from photographs with known poses."""
