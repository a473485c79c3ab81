"""Several data sets at once: FastReID's own, and labels that would melt people of two sets into one."""

import pytest

from switchablecompat.data.training_sets import check_training_sets

ONE = [("a/1.jpg", "one_1", "one_c1"), ("a/2.jpg", "one_2", "one_c1")]


def codes(*sets):
    return [
        (finding.level, finding.code) for finding in check_training_sets([(f"set{k}", s) for k, s in enumerate(sets)])
    ]


def test_sets_that_number_apart_are_fine():
    assert codes(ONE, [("b/1.jpg", "two_1", "two_c1")]) == []
    assert codes(ONE) == []


def test_equal_identities_and_cameras_of_different_images_are_errors():
    (finding,) = check_training_sets([("one", ONE), ("two", [("b/1.jpg", "one_2", "two_c1")])])
    assert (finding.level, finding.code) == ("error", "shared-train-identities")
    assert finding.message == "1 identities of one have the labels of others in two: one_2"
    assert codes(ONE, [("b/1.jpg", "two_1", "one_c1")]) == [("error", "shared-train-cameras")]


@pytest.mark.parametrize("label", [1, ("x",)])
def test_labels_that_cannot_be_sorted_are_an_error(label):
    assert codes(ONE, [("b/1.jpg", label, "two_c1")]) == [("error", "mixed-train-labels")]


def test_a_set_that_is_named_twice_counts_double():
    assert codes(ONE, ONE) == [("warning", "repeated-train-files")]
    assert codes(ONE, [("./a/1.jpg", "two_1", "two_c1")]) == [("warning", "repeated-train-files")]
