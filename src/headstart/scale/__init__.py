"""The same work on many machines, with Ray; nothing else imports this room."""
