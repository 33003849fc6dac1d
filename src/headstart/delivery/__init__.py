"""The result in use: the model folder and the run folder."""
