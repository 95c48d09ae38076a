"""Settings and form of a finished model's session, searched by measurement."""
