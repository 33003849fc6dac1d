"""Pictures into vectors: preprocessing, backbones, engines and the store that keeps the results."""
