"""Interactive pictures without a GPU: keyframes seen from elsewhere, and fresh rays where they fail."""
