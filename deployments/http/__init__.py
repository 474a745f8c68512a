"""HTTP: bodies in, JSON out, keys, and HAProxy in front of them."""
