"""Model stage: a device turns batches of pixels into results."""
