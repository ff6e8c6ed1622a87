"""The explicit operator of a whole forward pass, decoder included (arXiv 2604.20595)."""
