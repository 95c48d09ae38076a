"""Which candidate to try, to trust and to ship."""
