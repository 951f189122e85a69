"""How a request gets in: who asks, what for, and what it may take of the hub. Both doors stand on this."""
