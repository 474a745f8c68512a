"""Limit on the open files of a replica."""

import logging
import resource

logger = logging.getLogger(__name__)


def raise_open_files_limit() -> None:
    """Raise the limit on open files to the most that this process may have.

    Each connection is an open file, and each decode worker about ten. `ray start` leaves the usual limit of 1,024.
    """
    soft, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    except (ValueError, OSError) as error:  # the kernel allows fewer than the limit says
        logger.warning("the limit of %s open files cannot be raised: %s", soft, error)
