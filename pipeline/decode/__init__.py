"""Decode stage: worker processes turn encoded images into pixels in shared memory."""
