"""How any result is shown: blocks, tables, units; on a terminal, as Markdown, as HTML."""
