"""Which trial goes on, and with what budget."""
