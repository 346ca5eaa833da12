"""Models by HTTP. Trains nothing itself."""
