"""Integer arithmetic: ranges, types per processor, and the bridge to the runtime's quantizer."""
