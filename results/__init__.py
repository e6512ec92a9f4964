"""What came out: frames of trials, fronts, tables and the report."""
