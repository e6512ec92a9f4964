"""What every floor may say of a run: how it is stored, whoever wrote it."""
