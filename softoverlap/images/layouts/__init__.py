"""Training data sets as their authors lay them out, recognised and read as cases."""
