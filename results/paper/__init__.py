"""The tables of the paper (arXiv 2105.01883) as CSV, printed digits as they stand there."""
