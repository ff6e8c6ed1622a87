"""Reports: one self-contained HTML file about one forward pass, readable without a network."""

from mixerlens.report.page import build, write

__all__ = ["build", "write"]
