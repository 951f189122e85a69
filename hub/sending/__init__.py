"""What the hub sends to addresses that its users name: only to public ones, and never for long."""
