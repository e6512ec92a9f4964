"""What may vary: search spaces and ablations over the configurations of `repmlp`."""
