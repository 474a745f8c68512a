"""Limit on the open files of a replica."""

import resource


def allow_open_files() -> None:
    """Raise the limit on open files to the most that this process may have.

    Each connection is an open file, and each decode worker about ten. `ray start` leaves the usual limit of 1,024.
    """
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
