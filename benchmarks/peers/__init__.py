"""Services of other frameworks with the same model, each set up by its own documentation."""
