"""Options, declared once each: the command line, TOML, JSON and Python read the same fields.

Nothing heavy is imported here, because the command line is made of these before it knows what to do.
"""
