"""What is measured of written texts, by hand; and how a text is cut into blocks."""

from pathlib import Path

import numpy as np
import pytest

from jobs.errors import InputError
from jobs.language import texts
from jobs.language.measures import distinct, repetition
from jobs.language.texts import Part


def part(*tokens: int) -> Part:
    return Part(tokens=np.array(tokens, dtype=np.int32), characters=len(tokens))


def test_distinct_counts_different_ngrams_over_all_texts_but_none_across_two() -> None:
    assert distinct([[1, 2, 1], [2, 1]], 1) == 2 / 5
    assert distinct([[1, 2, 1], [2, 1]], 2) == 2 / 3  # 12 21 | 21
    assert distinct([[1]], 2) == 0


def test_repetition_is_the_mean_share_of_4_grams_that_a_text_has_said_before() -> None:
    loop, varied = [1, 2] * 4, list(range(8))
    assert repetition([varied]) == 0
    assert repetition([loop]) == pytest.approx(1 - 2 / 5)
    assert repetition([loop, varied, [1]]) == pytest.approx((1 - 2 / 5) / 3)


def test_a_text_is_cut_at_ends_of_lines_into_80_10_10_and_nothing_is_lost_or_in_two_parts() -> None:
    text = "".join(f"line {number}\n" for number in range(1000))
    train, val, test = texts.cut(text)
    assert train + val + test == text
    assert [piece[-1] for piece in (train, val)] == ["\n", "\n"]
    assert [len(piece) / len(text) for piece in (train, val, test)] == pytest.approx([0.8, 0.1, 0.1], abs=0.002)
    assert [len(piece) for piece in texts.cut("x" * 100)] == [80, 10, 10]  # where there are no lines
    assert [len(piece) for piece in texts.cut("title\n" + "x" * 994)] == [800, 100, 100]  # or none near


def test_a_block_s_targets_are_its_inputs_one_later_and_blocks_do_not_overlap() -> None:
    inputs, targets = texts.blocks(part(*range(10)), "train", 4)
    assert inputs.tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert targets.tolist() == [[1, 2, 3, 4], [5, 6, 7, 8]]


def test_a_part_shorter_than_a_block_is_refused_with_its_name_and_both_numbers() -> None:
    with pytest.raises(InputError, match=r"the val part of the text has 4 tokens, fewer than context \+ 1 = 5"):
        texts.blocks(part(1, 2, 3, 4), "val", 4)


def test_the_baseline_is_the_perplexity_of_frequencies_plus_one() -> None:
    found = texts.unigram_perplexity(part(0, 0, 0), part(0, 1), size=2)
    assert found == pytest.approx((4 / 5 * 1 / 5) ** -0.5)


def test_a_wrong_byte_is_told_with_its_line_and_place(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("één\ntwo\n".encode() + b"thr\xff")
    with pytest.raises(InputError, match=r"a\.txt, line 3: byte 14 of the file \(0xff\) is not UTF-8"):
        texts.read(tmp_path / "a.txt")


def test_an_empty_text_is_refused_and_a_byte_order_mark_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text(" \n")
    with pytest.raises(InputError, match="is empty"):
        texts.read(path)
    path.write_bytes(b"\xef\xbb\xbfabc")
    assert texts.read(path) == "abc"
