"""The Merkle tree agrees with RFC 6962, and a path proves its own entry and nothing else."""

from __future__ import annotations

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.merkle import EMPTY_ROOT, MerkleTree, leaf_hash, node_hash, root_by_path

ENTRIES = [
    bytes.fromhex(each)
    for each in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
"""The entries that the logs of Certificate Transparency test themselves with, and the roots of the first so many of them."""

ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
entries = st.lists(st.binary(max_size=40), min_size=1, max_size=70)


def tree_of(listed: list[bytes], wanted: int | None = None) -> MerkleTree:
    tree = MerkleTree()
    for number, entry in enumerate(listed):
        tree.add(entry, wanted=number == wanted)
    return tree


def by_definition(listed: list[bytes]) -> bytes:
    """RFC 6962 section 2.1, word for word."""
    if not listed:
        return sha256(b"").digest()
    if len(listed) == 1:
        return sha256(b"\x00" + listed[0]).digest()
    left = 1 << (len(listed) - 1).bit_length() - 1
    return sha256(b"\x01" + by_definition(listed[:left]) + by_definition(listed[left:])).digest()


@pytest.mark.parametrize("count", range(9))
def test_roots_are_those_that_others_publish(count: int) -> None:
    assert tree_of(ENTRIES[:count]).root().hex() == ROOTS[count]


@given(entries)
def test_the_growing_tree_is_the_one_of_the_definition_also_for_odd_counts(listed: list[bytes]) -> None:
    assert tree_of(listed).root() == by_definition(listed)


@given(entries, st.data())
def test_i11_every_path_proves_its_entry(listed: list[bytes], data: st.DataObject) -> None:
    wanted = data.draw(st.integers(0, len(listed) - 1))
    tree = tree_of(listed, wanted)

    assert root_by_path(listed[wanted], wanted, len(listed), tree.path()) == tree.root()
    assert len(tree.path()) <= (len(listed) - 1).bit_length()


@given(entries, st.data())
def test_i11_a_bit_flipped_in_entry_or_path_proves_nothing(listed: list[bytes], data: st.DataObject) -> None:
    wanted = data.draw(st.integers(0, len(listed) - 1))
    tree = tree_of(listed, wanted)
    path, root = tree.path(), tree.root()
    told = [listed[wanted], *path]
    number = data.draw(st.sampled_from([n for n, each in enumerate(told) if each] or [0]))
    flipped = bytearray(told[number] or b"\x00")
    flipped[data.draw(st.integers(0, len(flipped) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    told[number] = bytes(flipped)

    assert root_by_path(told[0], wanted, len(listed), told[1:]) != root


@given(entries, st.data())
def test_i11_another_place_or_a_longer_or_shorter_path_proves_nothing(
    listed: list[bytes], data: st.DataObject
) -> None:
    wanted = data.draw(st.integers(0, len(listed) - 1))
    tree = tree_of(listed, wanted)
    path, root, entry = tree.path(), tree.root(), listed[wanted]

    assert root_by_path(entry, wanted, len(listed), [*path, bytes(32)]) is None
    assert not path or root_by_path(entry, wanted, len(listed), path[:-1]) is None
    for other in range(len(listed)):
        if listed[other] != entry:
            assert root_by_path(listed[other], other, len(listed), path) != root
    assert root_by_path(entry, len(listed), len(listed), path) is None
    assert root_by_path(entry, -1, len(listed), path) is None
    assert root_by_path(entry, wanted, len(listed), [each[:31] for each in path] or [b""]) is None


def test_i11_a_node_does_not_pass_for_an_entry() -> None:
    first, second = leaf_hash(b"a"), leaf_hash(b"b")
    two = tree_of([b"a", b"b"]).root()

    assert two == node_hash(first, second)
    assert tree_of([first + second]).root() != two
    assert root_by_path(first + second, 0, 1, []) != two
    assert tree_of([]).root() == EMPTY_ROOT
