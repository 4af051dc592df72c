"""Splits are pure functions with the promised shares."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from tod.data.splits import FRACTIONS, assign_splits

seeds = st.integers(0, 2**32)


def pictures(labels):
    return labels, [f"content {index}" for index in range(len(labels))]


@given(st.lists(st.integers(5, 40), min_size=1, max_size=5), seeds)
def test_shares_are_60_20_20_in_every_class(sizes, seed):
    labels, contents = pictures([c for c, n in enumerate(sizes) for _ in range(n)])
    splits = assign_splits(labels, contents, seed)
    for label, size in enumerate(sizes):
        found = Counter(s for s, other in zip(splits, labels, strict=True) if other == label)
        for split, share in FRACTIONS.items():
            assert abs(found[split] - share * size) <= 1
            assert found[split] >= 1


def test_100_pictures_are_split_exactly():
    splits = assign_splits(*pictures([0] * 100), seed=3)
    assert Counter(splits) == {"train": 60, "test": 20, "validation": 20}


@given(st.permutations(range(30)), seeds)
def test_order_of_the_files_does_not_matter(order, seed):
    labels, contents = pictures([i % 3 for i in range(30)])
    straight = dict(zip(contents, assign_splits(labels, contents, seed), strict=True))
    mixed_labels, mixed = [labels[i] for i in order], [contents[i] for i in order]
    assert dict(zip(mixed, assign_splits(mixed_labels, mixed, seed), strict=True)) == straight


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 9)), min_size=5, max_size=60), seeds)
def test_equal_pictures_stay_on_one_side(found, seed):
    labels, contents = [label for label, _ in found], [f"content {c}" for _, c in found]
    sides = {}
    for content, split in zip(contents, assign_splits(labels, contents, seed), strict=True):
        assert sides.setdefault(content, split) == split


def test_another_seed_is_another_split():
    arguments = pictures([0] * 50)
    assert assign_splits(*arguments, seed=0) != assign_splits(*arguments, seed=1)
    assert assign_splits(*arguments, seed=1) == assign_splits(*arguments, seed=1)


def test_split_is_the_same_everywhere():
    splits = assign_splits(*pictures([0] * 10), seed=5)
    assert " ".join(split[:2] for split in splits) == "va tr te tr tr tr tr va te tr"
