"""Resources besides time: memory and energy."""
