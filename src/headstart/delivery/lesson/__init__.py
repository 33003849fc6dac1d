"""How a network sees: its layers as a table, and a page of pictures."""
