"""Trivium: pretrain, instruct and align a language model, from raw text to votes."""

__version__ = "0.1.0"
