"""A machine that hurts itself: small searches under faults, and what is left of each held against what was promised."""
