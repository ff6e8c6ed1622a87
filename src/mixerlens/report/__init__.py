"""Reports: one self-contained HTML file about one forward pass, readable without a network; tables for a terminal."""

from mixerlens.report.page import build, write
from mixerlens.report.terminal import certificate_table

__all__ = ["build", "certificate_table", "write"]
