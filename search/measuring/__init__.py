"""Networks measured: counted, timed at measurement points, alone on their devices."""
