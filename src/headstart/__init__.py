"""headstart: from a folder of labelled pictures to a classifier that its owner can trust."""

__version__ = "0.1.0"
