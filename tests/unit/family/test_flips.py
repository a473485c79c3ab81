"""Negative flips query by query, by hand."""

import numpy as np
import torch

from switchablecompat.evaluation.ranking import ProtocolMatches
from switchablecompat.family.flips import Flip, best_match, negative_flips, worst_flips

# Query 0 falls to 4 on gallery 1, and to 9 as a query of sub-model 1 on gallery 0. Query 1 falls to 4 too. Query 2 is
# wrong alone, query 3 is right everywhere, query 4 has no match.
RANKS = np.array([[[1, 1, 2, 1, 0], [4, 4, 9, 1, 0]], [[9, 1, 1, 1, 0], [1, 1, 1, 1, 0]]])


def test_each_query_once_with_the_cross_test_where_it_falls_furthest():
    assert worst_flips(RANKS, np.ones((2, 2), dtype=bool), 9) == [Flip(0, 1, 0, 9), Flip(1, 0, 1, 4)]
    assert worst_flips(RANKS, np.ones((2, 2), dtype=bool), 1) == [Flip(0, 1, 0, 9)]


def test_a_flip_needs_the_self_test_and_the_cross_test():
    without_self_test = np.array([[True, True], [True, False]])
    assert worst_flips(RANKS, without_self_test, 9) == [Flip(0, 0, 1, 4), Flip(1, 0, 1, 4)]
    assert worst_flips(RANKS, np.eye(2, dtype=bool), 9) == []


def test_the_best_match_is_no_junk_and_the_first_of_equals():
    query, gallery = torch.ones(2, 1), torch.tensor([[0.9], [0.5], [0.7], [0.7]])
    # Query 0 (identity 1, camera 0): item 0 is junk, items 2 and 3 tie. Query 1 (identity 2): item 0 is the best.
    matches = ProtocolMatches([1, 2], [1, 1, 3, 1], [0, 0], [0, 1, 0, 1])
    found = [best_match(number, query[number], gallery, matches, right=False) for number in (0, 1)]
    assert found == [2, 0]
    # Item 3 is right for query 0, and as similar as item 2: which of them is first is for the grid to say.
    assert best_match(0, query[0], gallery, matches, right=True) == 3


def test_negative_flips_by_hand():
    # Five queries, the last one without a match: four count.
    own_small, own_full = [1, 1, 1, 3, 0], [1, 1, 2, 1, 0]
    small_on_full, full_on_small = [1, 2, 5, 1, 0], [1, 1, 1, 1, 0]
    ranks = np.array([[own_small, small_on_full], [full_on_small, own_full]])
    # Small: right alone 0, 1, 2; of them 1 and 2 are wrong on the full gallery: 2 of 4. Full: nothing is lost.
    assert negative_flips(ranks, np.ones((2, 2), dtype=bool)) == [[None, 50.0], [0.0, None]]


def test_negative_flips_need_both_cells():
    ranks = np.array([[[1], [2]], [[2], [0]]])
    defined = np.array([[True, True], [True, False]])
    assert negative_flips(ranks, defined) == [[None, 100.0], [None, None]]
    assert negative_flips(ranks, np.eye(2, dtype=bool)) == [[None, None], [None, None]]
