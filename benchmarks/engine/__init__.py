"""What the engine costs, and how it ends."""
