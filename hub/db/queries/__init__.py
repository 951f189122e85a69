"""Every query by name, one module per thing that is asked for."""
