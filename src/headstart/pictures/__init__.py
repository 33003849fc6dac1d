"""What the user has: pictures, their labels, and what is wrong with them."""
