"""Where a quantized model loses precision."""
