"""What a network costs: counts, and throughput measured alone on its device."""
