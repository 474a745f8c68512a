"""What `darkroom tune` is made of."""
