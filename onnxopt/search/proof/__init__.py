"""The proof on hold-out samples: how many can prove anything, which finalists are tried, and what they give."""
