"""Display of results: blocks, tables, units; on a terminal, as Markdown, as HTML."""
