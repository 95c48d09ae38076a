"""Which layers run in INT8, and which stay in float."""
