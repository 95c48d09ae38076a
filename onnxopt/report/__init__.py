"""Reports of a run: terminal tables, Markdown, HTML page, model card."""
