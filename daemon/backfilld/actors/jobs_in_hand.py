"""The jobs that fetchers have, by the pool that they spend. Owns the count."""

from collections import Counter

from backfilld.actors.messages import Job
from backfilld.core.markets import RULES, Pool


class JobsInHand:
    """True while there are any."""

    def __init__(self) -> None:
        self._count = Counter[Pool]()

    def __bool__(self) -> bool:
        return bool(self._count.total())

    def dealt(self, job: Job) -> None:
        """A fetcher got the job."""
        self._count[RULES[job.market].pool] += 1

    def came_back(self, job: Job) -> None:
        """The job was answered, failed or dropped."""
        self._count[RULES[job.market].pool] -= 1

    def busy(self, fetchers: int) -> set[Pool]:
        """The pools whose ``fetchers`` all have a job."""
        return {pool for pool in Pool if self._count[pool] >= fetchers}
