"""Stage 1: worker processes turn encoded images into pixels in shared memory."""
