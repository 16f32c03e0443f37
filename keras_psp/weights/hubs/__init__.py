"""Model hubs: presets are fetched to the cache of the hub's own library, and uploaded."""
