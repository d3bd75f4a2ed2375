"""Consilium: hospitals train one brain-tumour model together, and no scan leaves home."""

__version__ = "0.1.0"
