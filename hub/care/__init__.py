"""What an operator does for a hub that is in use: copies of it, a look at its bytes, and clearing away."""
