"""Use cases as tools of a server: JSON in, JSON out, every path below one folder."""
