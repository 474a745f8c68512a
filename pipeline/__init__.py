"""The work of Darkroom: encoded images in, predictions out. Plain torch, no Ray, no HTTP."""
