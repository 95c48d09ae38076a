"""The measurements of a search on disk."""
