"""From a trial to files for a server: the study of a pick, and the verified export, where results and search meet."""
