"""What a search measured, on disk."""
