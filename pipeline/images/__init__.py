"""One encoded image: what its header says, what it costs, and its pixels. Knows no process and no queue."""
