"""Training: `recipe` (what to do), `tasks` (what is learned), `methods` (what is trained), `loop`, and what is kept of it."""
