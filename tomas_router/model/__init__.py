"""Centre and right panels in torch: backbone, prefix, heads, and the whole network."""
