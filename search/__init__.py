"""How a candidate is costed, trained, scheduled and recorded."""
