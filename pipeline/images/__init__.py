"""One encoded image: its header, the cost of decoding it, and its pixels. Independent of processes and queues."""
