"""Local search: mutants of the best trials."""

from record.trial import Trial
from search.samplers.proposing import Params, Proposing


class LocalSampler(Proposing):
    """Mutates a trial of the front of each budget: Pareto evolution, as regularised evolution (Real et al. 2019)."""

    def propose(self, judged: list[Trial]) -> Params:
        """Return a mutant."""
        parents = self.parents(judged)
        (draw,) = self.mutants(parents[int(self.generator.integers(len(parents)))], 1)
        self.networks.suggest(draw)
        return draw.params
