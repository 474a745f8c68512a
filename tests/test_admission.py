"""Which requests a replica takes on."""

import pytest

from deployments.admission import Admission
from pipeline.errors import Overloaded


def test_what_would_wait_too_long_is_refused() -> None:
    """The message names both times; when to come back follows from how much too long it is."""
    admission = Admission()
    admission.check_wait(0.25, limit_s=0.25)
    with pytest.raises(Overloaded, match=r"would wait for 2\.75 s; the limit is 0\.25 s \(max_wait_s") as refused:
        admission.check_wait(2.75, limit_s=0.25)
    assert refused.value.retry_after_s == 3
    with pytest.raises(Overloaded) as refused:
        admission.check_wait(1000.0, limit_s=0.25)
    assert refused.value.retry_after_s == 60
