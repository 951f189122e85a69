"""`make demo`: the whole job on a real model, through the real command line."""
