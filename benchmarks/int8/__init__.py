"""What 8 bits cost trained networks, by how they are quantized."""
