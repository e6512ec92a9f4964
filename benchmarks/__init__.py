"""One file a claim: each measures it beside its alternative in one run."""
