"""The study of the six design principles (arXiv 2510.09389): what they change in small trained models."""
