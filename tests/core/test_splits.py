"""Folds: the zoo's indices as published, blocks of neighbours, and groups that stay together."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unetcli.core.splits import block_folds, random_folds, random_part, zoo_folds


def test_zoo_folds_of_30_slices_are_those_of_the_zoo():
    assert [validation for _, validation in zoo_folds(30)] == [
        (0, 3, 12, 15, 21, 25),
        (4, 6, 7, 9, 18, 19),
        (1, 8, 14, 20, 23, 29),
        (5, 11, 16, 17, 22, 27),
        (2, 10, 13, 24, 26, 28),
    ]


def test_zoo_folds_leave_the_global_random_state_alone():
    np.random.seed(5)  # noqa: NPY002, the global state is what is tested
    expected = np.random.random()  # noqa: NPY002
    np.random.seed(5)  # noqa: NPY002
    zoo_folds(30)
    assert np.random.random() == expected  # noqa: NPY002


def test_block_folds_by_hand():
    assert block_folds(5, 2) == (((2, 3, 4), (0, 1)), ((0, 1), (2, 3, 4)))
    assert block_folds(30, 5)[-1] == (tuple(range(24)), tuple(range(24, 30)))


def assert_each_case_is_validated_once(folds, n):
    assert sorted(index for _, validation in folds for index in validation) == list(range(n))
    for train, validation in folds:
        assert sorted(train + validation) == list(range(n))
        assert all(type(index) is int for index in train + validation)


@given(st.integers(2, 12), st.integers(1, 20))
@settings(deadline=None)
def test_zoo_folds_validate_each_case_once_and_never_train_on_it(num_folds, size):
    folds = zoo_folds(num_folds * size, num_folds)
    assert len(folds) == num_folds
    assert_each_case_is_validated_once(folds, num_folds * size)


@given(st.data())
@settings(deadline=None)
def test_block_folds_validate_each_case_once_in_blocks_of_equal_size(data):
    n = data.draw(st.integers(2, 200))
    num_folds = data.draw(st.integers(2, n))

    folds = block_folds(n, num_folds)

    assert len(folds) == num_folds
    assert_each_case_is_validated_once(folds, n)
    assert all(validation == tuple(range(validation[0], validation[-1] + 1)) for _, validation in folds)
    assert {len(validation) for _, validation in folds} <= {n // num_folds, n // num_folds + 1}


@pytest.mark.parametrize("folds", [zoo_folds, block_folds])
@pytest.mark.parametrize(("n", "num_folds"), [(30, 1), (30, 0), (4, 5), (0, 2), (30, -5)])
def test_folds_that_do_not_fit_are_refused(folds, n, num_folds):
    with pytest.raises(ValueError, match=r"must be in \[2, "):
        folds(n, num_folds)


def test_zoo_folds_refuse_cases_that_some_fold_would_forget():
    with pytest.raises(ValueError, match="32 cases do not divide into 5"):
        zoo_folds(32)


def test_random_folds_by_hand():
    assert [validation for _, validation in random_folds(7, 3, seed=12345)] == [(2, 4, 5), (1, 3), (0, 6)]
    assert random_folds(7, 3) == random_folds(7, 3, 12345)
    assert random_folds(7, 3, 1) != random_folds(7, 3, 2)


@settings(max_examples=200)
@given(data=st.data())
def test_random_folds_part_no_group_and_validate_each_case_once(data):
    groups = data.draw(st.lists(st.integers(0, 12), min_size=2, max_size=60).filter(lambda found: len(set(found)) > 1))
    num_folds = data.draw(st.integers(2, len(set(groups))))

    folds = random_folds(len(groups), num_folds, data.draw(st.integers(0, 99)), groups)

    for train, validation in folds:
        assert sorted(train + validation) == list(range(len(groups)))
        assert not {groups[i] for i in train} & {groups[i] for i in validation}
    assert sorted(i for _, validation in folds for i in validation) == list(range(len(groups)))
    sizes = sorted(len(validation) for _, validation in folds)
    assert sizes[0] > 0
    assert sizes[-1] - sizes[0] <= max(map(groups.count, groups))


@given(n=st.integers(2, 300), num_folds=st.integers(2, 10), seed=st.integers(0, 9))
def test_random_folds_without_groups_are_as_even_as_can_be(n, num_folds, seed):
    num_folds = min(n, num_folds)
    sizes = {len(validation) for _, validation in random_folds(n, num_folds, seed)}
    assert sizes <= {n // num_folds, -(-n // num_folds)}


def test_random_folds_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"must be in \[2, 3\] for 3 cases, got 4"):
        random_folds(3, 4)
    with pytest.raises(ValueError, match=r"must be in \[2, 2\] for 2 groups, got 3"):
        random_folds(3, 3, groups=["a", "a", "b"])
    with pytest.raises(ValueError, match="a group for each of the 3 cases, got 2"):
        random_folds(3, 2, groups=["a", "b"])


@given(n=st.integers(2, 100), seed=st.integers(0, 9), data=st.data())
def test_a_part_has_as_many_cases_as_asked_for(n, seed, data):
    num_drawn = data.draw(st.integers(1, n - 1))
    train, validation = random_part(n, num_drawn, seed)
    assert len(validation) == num_drawn
    assert sorted(train + validation) == list(range(n))
    assert random_part(n, num_drawn, seed) == (train, validation)


def test_a_part_leaves_groups_whole():
    groups = ["a", "b", "a", "c", "b", "a"]
    for seed in range(9):
        train, validation = random_part(6, 3, seed, groups)
        assert len(validation) == 3
        assert not {groups[i] for i in train} & {groups[i] for i in validation}
    with pytest.raises(ValueError, match="groups of cases that stay together make 0 validation cases, not 1"):
        random_part(4, 1, groups=["a", "a", "b", "b"])


@pytest.mark.parametrize("num_drawn", [0, 3, 4])
def test_a_part_is_neither_nothing_nor_all(num_drawn):
    with pytest.raises(ValueError, match=rf"must be in \[1, 2\] for 3 cases, got {num_drawn}"):
        random_part(3, num_drawn)
