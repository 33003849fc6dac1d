"""The review desk: where a person improves the data, and the classifier with it."""
