"""How good a classifier is: metrics with their intervals and the evaluation made of them."""
