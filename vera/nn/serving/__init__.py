"""Many adapters of one projection on a live model at once, each row of a batch through its own."""
