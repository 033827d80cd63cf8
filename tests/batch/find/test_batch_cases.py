"""Which cases a batch has, from folders and from lists, and what they are called."""

from __future__ import annotations

import shutil
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
from dicom_series import write_series
from tiny import save

from medrestore.batch import find_cases
from medrestore.batch.find.lists import read_list
from medrestore.batch.find.names import place, safe_path, temporary_files
from medrestore.batch.workers.failures import stumbled
from medrestore.errors import InputError, OutputError
from medrestore.io import atomic_write
from medrestore.types import Modality

SERIES = Path(__file__).resolve().parents[3] / "sample_data" / "dicom_rician5"


@pytest.fixture
def tree(tmp_path):
    root = tmp_path / "in"
    (root / "sub").mkdir(parents=True)
    for name in ("sub/a_T1w.nii.gz", "b.nii", "sub/.hidden.nii"):
        save(root / name, np.ones((4, 4, 4), np.float32))
    (root / "notes.txt").write_text("no scan")
    shutil.copytree(SERIES, root / "series")
    return root


def test_a_tree_has_a_case_for_every_scan(tree):
    found = find_cases(tree)
    assert [(str(case.source), str(case.output), case.kind, case.modality) for case in found.cases] == [
        ("b.nii", "b_restored", "nifti", Modality.UNKNOWN),
        ("series", "series", "dicom", Modality.MR),
        ("sub/a_T1w.nii.gz", "sub/a_T1w_restored", "nifti", Modality.MR),
    ]
    assert len(found.cases[1].files) == len(list(SERIES.glob("*.dcm")))
    assert len({case.id for case in found.cases}) == 3


def test_two_series_in_a_folder_are_told_by_their_uid(tree, tmp_path):
    write_series(tmp_path / "other", "CT")
    for path in (tmp_path / "other").iterdir():
        shutil.copy(path, tree / "series" / f"other-{path.name}")
    found = [case for case in find_cases(tree).cases if case.kind == "dicom"]
    assert sorted(case.modality for case in found) == [Modality.CT, Modality.MR]
    assert [case.output for case in found] == [PurePosixPath("series", case.series) for case in found]


def test_results_within_the_scans_are_no_scans(tree):
    save(tree / "sub" / "x.nii", np.ones((2, 2, 2), np.float32))
    assert all(case.source.parts[0] != "sub" for case in find_cases(tree, leave_out=tree / "sub").cases)


def test_links_out_of_the_tree_are_not_followed(tree, tmp_path):
    outside = save(tmp_path / "outside.nii", np.ones((2, 2, 2), np.float32))
    (tree / "link.nii").symlink_to(outside)
    assert "link.nii" not in {str(case.source) for case in find_cases(tree).cases}


def test_cases_that_would_write_the_same_files_are_refused_but_one(tree):
    shutil.copy(tree / "b.nii", tree / "B.nii.gz")
    first, second = [case for case in find_cases(tree).cases if case.source.name.lower().startswith("b.")]
    assert first.refused == "" and f"that of case {first.id}" in second.refused


def test_a_series_beside_nifti_gets_a_folder_of_its_own(tree):
    save(tree / "series" / "T1.nii", np.ones((4, 4, 4), np.float32))
    cases = [case for case in find_cases(tree).cases if case.source.parts[0] == "series"]
    (series,) = (case for case in cases if case.kind == "dicom")
    assert series.output == PurePosixPath("series", series.series)
    assert not any(case.refused for case in cases)


def test_series_of_one_uid_are_numbered_whatever_else_there_is(tmp_path):
    def size(rows):
        def change(index, data):
            data.Rows, data.SOPInstanceUID = rows, f"1.2.9.{rows}.{index}"
            data.add_new("PixelData", "OW", bytes(2 * rows * data.Columns))

        return change

    for rows in (5, 6):
        write_series(tmp_path / f"s{rows}", change=size(rows))
    before = [(case.series, str(case.output), case.id) for case in find_cases(tmp_path).cases]

    def other(index, data):
        data.SeriesInstanceUID, data.SOPInstanceUID, data.SeriesNumber = "1.2.8", f"1.2.8.{index}", 1

    write_series(tmp_path / "a", change=other)
    after = [(case.series, str(case.output), case.id) for case in find_cases(tmp_path).cases]
    assert [case for case in after if case in before] == before


def test_a_series_around_another_gets_a_folder_beside_its_result(tmp_path):
    write_series(tmp_path / "study")

    def other(index, data):
        data.SeriesInstanceUID, data.SOPInstanceUID = "1.2.9", f"1.2.9.{index}"

    write_series(tmp_path / "study" / "more", change=other)
    outer, inner = find_cases(tmp_path).cases
    assert (str(outer.output), str(inner.output)) == (f"study/{outer.series}", "study/more")
    assert not outer.refused + inner.refused


def test_a_result_that_would_lie_around_others_is_refused(tree):
    (tree / "list.csv").write_text("input,output\nb.nii,a\nb.nii,a/b\n")
    outer, inner = read_list(tree / "list.csv").cases
    assert "the name of the folder of those of other cases" in outer.refused
    assert not inner.refused


def test_cases_can_be_chosen(tree):
    found = find_cases(tree)
    assert [str(case.source) for case in found.only(include=("sub/*",)).cases] == ["sub/a_T1w.nii.gz"]
    assert [str(case.source) for case in found.only(exclude=("s*",)).cases] == ["b.nii"]
    chosen = found.only(modalities=(Modality.MR,))
    assert (len(chosen.cases), chosen.left_out["filtered out"]) == (2, 1)


def test_the_content_of_a_series_does_not_depend_on_names(tree):
    (before,) = (case.content() for case in find_cases(tree).cases if case.kind == "dicom")
    for number, path in enumerate(sorted((tree / "series").glob("*.dcm"))):
        path.rename(path.with_name(f"X{number * 7919 % 1000:04}"))
    (after,) = (case.content() for case in find_cases(tree).cases if case.kind == "dicom")
    assert before == after


def test_a_list_names_inputs_outputs_and_references(tree):
    (tree / "list.csv").write_text("input,output,reference,modality\nb.nii,x/y,sub/a_T1w.nii.gz,MR\n")
    (case,) = read_list(tree / "list.csv").cases
    assert (str(case.output), case.modality) == ("x/y", Modality.MR)
    assert case.reference == (tree / "sub" / "a_T1w.nii.gz").resolve()
    (tree / "models").mkdir()
    (tree / "list.csv").write_text("input,model\nb.nii,models\nb.nii,mr-denoise\n")
    mine, shipped = read_list(tree / "list.csv").cases
    assert mine.id != shipped.id
    assert (mine.model, shipped.model) == (str((tree / "models").resolve()), "mr-denoise")
    (tree / "list.jsonl").write_text('{"input": "none.nii"}\n\n{"input": "series"}\n')
    missing, series = read_list(tree / "list.jsonl").cases
    assert (missing.refused, series.kind) == ("no such file", "dicom")


def test_a_reference_that_is_missing_is_refused_by_name(tree):
    scans = tree / "list.csv"
    scans.write_text("input,reference\nb.nii,none.nii\nsub/a_T1w.nii.gz,b.nii\n")
    refused, fine = read_list(scans).cases
    assert refused.refused == "its reference none.nii: no such file (line 2 of the list)" and not fine.refused


def test_a_reference_that_goes_meanwhile_is_said_to_be_one(tmp_path):
    gone = tmp_path / "truth.nii"
    error = FileNotFoundError(2, "", str(gone))
    job = {"case": "x", "reference": str(gone)}
    assert stumbled(error, job, read=False).cause == "its reference: No such file or directory"
    assert stumbled(error, {"case": "x", "reference": None}, read=False).cause == "No such file or directory"


def test_one_scan_in_several_ways_has_as_many_ids(tree):
    text = '{"input": "b.nii", "output": "x", "model": null}\n{"input": "b.nii", "output": "y"}\n'
    (tree / "list.jsonl").write_text(text + '{"input": "sub"}\n{"input": "sub"}\n')
    cases = read_list(tree / "list.jsonl").cases
    assert len({case.id for case in cases}) == len(cases) == 4
    assert cases[0].model is None
    assert [bool(case.refused) for case in cases] == [False, False, False, True]
    (tree / "list.jsonl").write_text('{"input": "b.nii", "output": "y"}\n')
    assert read_list(tree / "list.jsonl").cases[0].id == cases[1].id


def test_a_list_does_not_take_results_for_scans(tree):
    (tree / "out").mkdir()
    save(tree / "out" / "b_restored.nii.gz", np.ones((4, 4, 4), np.float32))
    (tree / "list.csv").write_text("input\n.\n")
    assert len(read_list(tree / "list.csv", leave_out=tree / "out").cases) == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("input,colour\nb.nii,red\n", "line 2: unknown colour"),
        ("output\nx\n", "line 1: names no column input; expected a header"),
        ("input,output\n,x\n", "line 2: no input"),
        ("b.nii\n", "line 1: names no column input; expected a header"),
        ("input;output\n", "has semicolons; expected .* with commas between"),
        ("input\toutput\nb.nii\tx\n", "has tabs; expected .* with commas between"),
        ("input,output\nb.nii,first.nii.gz\n", "line 2: the output ends in .nii.gz; expected a name without"),
        ("input,output\nb.nii\n", "not as many columns"),
        ("input,modality\nb.nii,PET\n", "modality is 'PET'"),
        ("input\nnotes.txt\n", "no NIfTI file and no folder"),
    ],
)
def test_a_wrong_list_is_refused_with_its_line(tree, text, message):
    (tree / "list.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        read_list(tree / "list.csv")


@pytest.mark.parametrize("text", ['[{"input": "b.nii"}]', '"b.nii"', "b.nii", "[" * 100_000])
def test_a_line_that_is_no_object_is_refused_with_what_is_expected(tree, text):
    (tree / "list.jsonl").write_text('{"input": "b.nii"}\n' + text + "\n")
    with pytest.raises(InputError, match="line 2: is no JSON object; expected one a line, such as"):
        read_list(tree / "list.jsonl")


# --- names -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["../up", "a/../../b", "/etc/passwd", "."])
def test_a_name_that_leads_elsewhere_is_refused(name):
    with pytest.raises(OutputError, match="below the folder of results"):
        safe_path(PurePosixPath(name))


def test_no_case_is_called_like_the_deviation_of_another():
    names = [safe_path(PurePosixPath(name)).name for name in ("chest", "chest_std", "chest_STD")]
    assert names[0] == "chest" and len(set(names)) == 3
    assert not any(name.lower().endswith("_std") for name in names)
    assert safe_path(PurePosixPath("chest_std/scan")) == PurePosixPath("chest_std/scan")


def test_odd_and_long_names_are_made_safe_and_stay_apart():
    long = [str(safe_path(PurePosixPath("x" * 300 + end))) for end in ("a", "b")]
    assert long[0] != long[1] and all(len(name) <= 150 for name in long)
    odd = [str(safe_path(PurePosixPath(name))) for name in ("a\nb", "a\0b", "a\udcffb", "a_b")]
    assert len(set(odd)) == 4 and all(name.isprintable() for name in odd)
    assert str(safe_path(PurePosixPath("übung/ä b"))) == "übung/ä b"


def test_a_link_in_the_results_is_not_followed(tmp_path):
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    out.mkdir()
    elsewhere.mkdir()
    (out / "sub").symlink_to(elsewhere)
    with pytest.raises(OutputError, match="sub is a link"):
        place(out, PurePosixPath("sub/deep/a"))
    assert not list(elsewhere.iterdir())
    assert place(out, PurePosixPath("new/deep/a")).parent.is_dir()


def test_temporary_files_of_long_names_are_told_apart(tmp_path):
    one, two = (tmp_path / (letter + "x" * 120) for letter in "ab")
    with atomic_write(one.with_name(f"{one.name}.nii.gz")) as temporary:
        assert temporary_files(one) == [temporary] and not temporary_files(two)
        with atomic_write(temporary, overwrite=True) as again:  # as a format writes what is given it
            assert set(temporary_files(one)) == {temporary, again} and not temporary_files(two)


def test_temporary_files_of_a_result_are_told_from_others(tmp_path):
    for name in (".0123abcd.a.nii.gz", ".0123abcd.a.json", ".0123abcd.b.nii.gz", ".a.nii.gz", "a.nii.gz"):
        (tmp_path / name).touch()
    (tmp_path / ".0123abcd.a.old").mkdir()
    assert {path.name for path in temporary_files(tmp_path / "a")} == {
        ".0123abcd.a.nii.gz",
        ".0123abcd.a.json",
        ".0123abcd.a.old",
    }
