"""A cluster as the place where the heavy work of every road is done."""

from typing import TYPE_CHECKING

from headstart.learning.examples import Examples
from headstart.learning.solve import Solved
from headstart.progress import Progress
from headstart.scale.cluster import Cluster
from headstart.scale.contest import training_on
from headstart.scale.embed import embedding_on
from headstart.site import Finetune, Site

if TYPE_CHECKING:
    from headstart.learning.finetune import Job, Tuned


def site_of(cluster: Cluster) -> Site:
    """The site whose work the workers of `cluster` do, which is joined: `with joined("ray") as cluster:`."""
    return Site(embedding_on(cluster), _finetune_on(cluster), training_on(cluster))


def _finetune_on(cluster: Cluster) -> Finetune:
    def tuning(solved: Solved, examples: Examples, job: "Job", progress: Progress) -> "Tuned":
        from headstart.scale.tune import finetune_on  # with torch: seconds

        return finetune_on(cluster)(solved, examples, job, progress)

    return tuning
