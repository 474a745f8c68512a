"""The same service by other frameworks, each as its own documentation sets it up."""
