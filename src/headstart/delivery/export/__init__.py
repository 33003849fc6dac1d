"""Export: the classifier as a file for another runtime, handed over only when it has answered as the original does."""
