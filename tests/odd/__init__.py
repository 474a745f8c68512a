"""Odd files, made from seeds, each with the answer that it must get."""
