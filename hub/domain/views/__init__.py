"""What the hub shows, by subject: the shapes of `docs/api.md`, the same for the API and the pages."""
