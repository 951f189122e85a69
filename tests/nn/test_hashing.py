"""Tensors are hashed as they are stored, and recognised where they lie by whoever hashed them before."""

from __future__ import annotations

import hashlib

import pytest
import torch
from torch import Tensor

from tests.vera import splitmix
from vera.nn.hashing import _COPIED_BYTES, DTYPES, TensorHasher, _sha256_from_afar
from vera.parallel_digest import GAMMA, DigestBook

# What lies nowhere at hand is digested where it is, as on a GPU.
FAR: tuple[str, ...] = ()


def numbers(dtype: torch.dtype, count: int = 24) -> Tensor:
    return (torch.arange(count) % 7 - 3).to(dtype)


def sha256(tensor: Tensor) -> str:
    return hashlib.sha256(bytes(tensor.view(torch.uint8).tolist())).hexdigest()


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_of_a_checkpoint_is_hashed(dtype: str) -> None:
    tensor = numbers(DTYPES[dtype])
    assert TensorHasher().sha256_all([(tensor, dtype)]) == [sha256(tensor)]


@pytest.mark.parametrize(("live", "stored"), [("F32", "BF16"), ("F64", "F32"), ("BF16", "F8_E4M3")])
def test_a_wider_tensor_is_hashed_as_it_is_stored_or_not_at_all(live: str, stored: str) -> None:
    tensor = numbers(DTYPES[live])
    finer = tensor * (1 + torch.finfo(DTYPES[live]).eps)
    assert TensorHasher().sha256_all([(tensor, stored), (finer, stored)]) == [sha256(tensor.to(DTYPES[stored])), None]


def test_a_tensor_that_is_not_there_has_no_hash() -> None:
    assert TensorHasher(DigestBook()).sha256_all([(torch.empty(3, device="meta"), "F32")]) == [None]


def test_what_was_hashed_and_wanted_is_recognised() -> None:
    book, wanted, other = DigestBook(), numbers(torch.float32), numbers(torch.float32) + 1
    jobs = [(wanted, "F32"), (other, "F32"), (wanted.double(), "F32")]
    first, again = (TensorHasher(book, [sha256(wanted)], at_hand=FAR) for _ in range(2))

    expected = [sha256(wanted), sha256(other), sha256(wanted)]
    assert first.sha256_all(jobs) == again.sha256_all(jobs) == expected
    assert (first.recognised, again.recognised) == (0, 2)
    assert list(book.known.values()) == [sha256(wanted)]


def test_a_digest_is_of_as_many_bytes() -> None:
    """Zeros that fill up the last word are no bytes of a tensor."""
    book, short, long = DigestBook(), torch.zeros(3, dtype=torch.uint8), torch.zeros(5, dtype=torch.uint8)
    wanted = [sha256(short), sha256(long)]
    TensorHasher(book, wanted, at_hand=FAR).sha256_all([(short, "U8")])
    assert TensorHasher(book, wanted, at_hand=FAR).sha256_all([(long, "U8")]) == [sha256(long)]


def test_what_was_made_to_collide_under_the_public_constant_does_not_under_a_secret_one() -> None:
    """Two words may change places when each takes the difference of their γ along."""
    words = torch.tensor([5, 9])
    gamma = GAMMA - (1 << 64)
    forged = torch.tensor([9 + gamma, 5 - gamma])
    plain, lie = (bytes(t.view(torch.uint8).tolist()) for t in (words, forged))
    assert splitmix.digest(plain) == splitmix.digest(lie)
    book = DigestBook()
    assert splitmix.digest(plain, book.gamma) != splitmix.digest(lie, book.gamma)
    for _ in range(2):
        hasher = TensorHasher(book, [sha256(words)], at_hand=FAR)
        assert hasher.sha256_all([(words, "I64"), (forged, "I64")]) == [sha256(words), sha256(forged)]


def test_a_tensor_that_is_written_to_meanwhile_is_not_learnt() -> None:
    right = numbers(torch.float32)
    wrong = right + 1
    late = wrong.clone()

    class Looking(dict[tuple[int, str], str]):
        """The right numbers arrive after the digest was taken, when it is looked up, and before the bytes are hashed."""

        def __contains__(self, key: object) -> bool:
            late.copy_(right)
            return super().__contains__(key)

    book = DigestBook(known=Looking())
    assert TensorHasher(book, [sha256(right)], at_hand=FAR).sha256_all([(late, "F32")]) == [sha256(right)]
    assert TensorHasher(book, [sha256(right)], at_hand=FAR).sha256_all([(wrong, "F32")]) == [sha256(wrong)]


def test_progress_counts_what_was_recognised_too() -> None:
    book, tensor = DigestBook(), numbers(torch.float32)
    TensorHasher(book, [sha256(tensor)], at_hand=FAR).sha256_all([(tensor, "F32")])
    seen: list[tuple[int, int]] = []
    TensorHasher(book, at_hand=FAR).sha256_all([(tensor, "F32"), (tensor + 1, "F32")], lambda *at: seen.append(at))
    assert seen == [(192, 192)]


def test_a_tensor_from_afar_is_hashed_piece_by_piece() -> None:
    data = torch.randint(0, 255, (2 * _COPIED_BYTES + 5,), dtype=torch.uint8)
    assert _sha256_from_afar(data) == hashlib.sha256(data.numpy().data).hexdigest()
    if torch.cuda.is_available():
        assert _sha256_from_afar(data.cuda()) == _sha256_from_afar(data)
