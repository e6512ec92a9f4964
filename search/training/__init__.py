"""One network trained: recipe, task, one epoch at a time."""
