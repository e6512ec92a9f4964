"""One page each: something of a user's own in a study, or a use as a library. `python -m examples.NAME` runs one."""
