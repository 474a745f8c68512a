"""The order of test files in a run of several processes: files with a shared service stay together."""

from xdist.scheduler import LoadFileScheduling

from tests.support.shared_services import takes_a_service


class SharedServices(LoadFileScheduling):  # type: ignore[misc]  # xdist has no annotations
    """Keeps the tests of a file in one process, and all files whose tests take a shared service in the same one."""

    def _split_scope(self, nodeid: str) -> str:
        file: str = super()._split_scope(nodeid)
        return "services" if takes_a_service(file) else file
