"""The command line: arguments in, one call, a table or JSON out. Nothing heavy is imported before they are parsed."""
