"""Who may call a service: keys, and origins of pages."""
