"""FastReID's evaluator as an oracle: without its compiler, and with its re-ranking on the CPU."""

import pytest
from fastreid.evaluation import ReidEvaluator
from fastreid.utils import compute_dist

CPU_SEARCH = 3  # compute_jaccard_distance(search_option=3): faiss.IndexFlatL2


def fastreid_results(cfg, features, pids, camids, num_query):
    """mAP, mINP and Rank-k in per cent of features [N, D], queries first."""
    original = compute_dist.compute_jaccard_distance
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ReidEvaluator, "_compile_dependencies", lambda self: None)
        on_cpu = lambda x, **options: original(x, **{**options, "search_option": CPU_SEARCH})  # noqa: E731
        patch.setattr(compute_dist, "compute_jaccard_distance", on_cpu)
        evaluator = ReidEvaluator(cfg, num_query)
        evaluator.process({"targets": pids, "camids": camids}, features)
        return evaluator.evaluate()
