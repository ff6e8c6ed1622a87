"""Readers of the archives' text files, against fixtures written by hand."""

from __future__ import annotations

import numpy as np
import pytest

from mixerlens.data.archive import read, read_pair
from mixerlens.errors import InputError

TS = """#a comment: with, signs
@problemName Two
@timeStamps false
@missing false
@univariate false
@dimensions 2
@equalLength false
@classLabel true 1 b
@data
1.5,-2,3e1:0,0.25,-1:1
4,5:6,7:b
"""
RELATIONAL = r"""% a comment
@relation 'Two'
@attribute relationalAtt relational
@attribute att0 numeric
@end relationalAtt
@attribute activity {1,b}
@data
'1.5,-2,3e1\n0,0.25,-1',1
"4,5,8\n6,7,9",b
"""
PLAIN = "@relation One\n@attribute att0 numeric\n@attribute target {1,2}\n@data\n1,2,3,1\n4,5,6, 2\n"
COLUMNS = "   1.0000000e+00   2.5  -3\n   2.0000000e+00   4  5\n\n"


def written(tmp_path, name, text):
    path = tmp_path / name
    path.write_text(text)
    return path


def same(found, series, labels):
    assert found[1] == labels and len(found[0]) == len(series)
    for ours, theirs in zip(found[0], series, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_ts_with_two_channels_of_unequal_lengths(tmp_path):
    found = read(written(tmp_path, "Two_TRAIN.ts", TS))
    same(found, [[[1.5, -2, 30], [0, 0.25, -1]], [[4, 5], [6, 7]]], ["1", "b"])


def test_relational_arff(tmp_path):
    found = read(written(tmp_path, "a.arff", RELATIONAL))
    same(found, [[[1.5, -2, 30], [0, 0.25, -1]], [[4, 5, 8], [6, 7, 9]]], ["1", "b"])


def test_plain_arff(tmp_path):
    same(read(written(tmp_path, "a.arff", PLAIN)), [[[1, 2, 3]], [[4, 5, 6]]], ["1", "2"])


@pytest.mark.parametrize("name", ["a.txt", "a.TSV"])
def test_columns_with_the_label_in_front(tmp_path, name):
    text = COLUMNS if name == "a.txt" else "1\t2.5\t-3\n2\t4\t5\n"
    same(read(written(tmp_path, name, text)), [[[2.5, -3]], [[4, 5]]], ["1", "2"])


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.ts", TS.replace("0.25", "?"), "line 10: '?' is no finite number"),
        ("a.ts", TS.replace("0.25", "NaN"), "line 10: 'NaN' is no finite number"),
        ("a.ts", TS.replace("0.25", "1e999"), "line 10: '1e999' is no finite number"),
        ("a.ts", TS.replace("0,0.25,-1", "0,0.25"), "line 10: channels of [2, 3] steps"),
        ("a.ts", TS.replace("4,5:6,7:b", "4,5:b"), "series with [1, 2] channels"),
        ("a.ts", TS.replace("6,7:b", "6,7:"), "line 11: a series without a label"),
        ("a.ts", TS.replace("@timeStamps false", "@timeStamps true"), "time stamps"),
        ("a.ts", TS.split("@data")[0] + "@data\n", "holds no series"),
        ("a.ts", TS.split("@data")[0], "no @data line"),
        ("a.ts", "\x00\xff garbage", "neither a comment nor"),
        ("a.ts", "", "no @data line"),
        ("a.arff", "<html>not found</html>", "no @data line"),
        ("a.arff", RELATIONAL.replace(",b", ","), "a series without a label"),
        ("a.txt", "1 2 x\n", "'x' is no finite number"),
        ("a.csv", "1,2", "are read from .ts"),
    ],
)
def test_what_is_no_such_file_is_one_line(tmp_path, name, text, said):
    path = written(tmp_path, name, text)
    with pytest.raises(InputError) as caught:
        read(path)
    assert said in str(caught.value) and str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_random_bytes_never_end_in_another_error(tmp_path):
    draw = np.random.default_rng(0)
    path = tmp_path / "a.ts"
    for suffix in (".ts", ".arff", ".txt"):
        path = path.with_suffix(suffix)
        for size in range(0, 200, 7):
            path.write_bytes(b"@data\n" + draw.integers(0, 256, size, dtype=np.uint8).tobytes())
            with pytest.raises(InputError):
                read(path)


def test_a_pair_is_found_in_the_folder_or_below_it_and_missed_with_its_names(tmp_path):
    (tmp_path / "Two").mkdir()
    for part in ("TRAIN", "TEST"):
        written(tmp_path / "Two", f"Two_{part}.ts", TS)
    train, test = read_pair(tmp_path, "Two")
    assert train[1] == test[1] == ["1", "b"]
    assert read_pair(tmp_path / "Two", "Two")[0][1] == ["1", "b"]
    (tmp_path / "Two" / "Two_TEST.ts").unlink()
    with pytest.raises(InputError, match="Two_TRAIN and Two_TEST"):
        read_pair(tmp_path, "Two")
