"""The studies that `mixerlens reproduce` runs again: every number a stored cell, every table a function of cells."""
