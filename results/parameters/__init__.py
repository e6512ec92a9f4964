"""What the parameters of a space have to do with what came out."""
