"""The report of a batch: its tables and its pages."""

from __future__ import annotations

import base64
import csv
import hashlib
import html
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from report_rows import DONE, FAILED, parsed, scan

from medrestore.errors import ConfigError, OutputError
from medrestore.provenance import Step
from medrestore.report import preview, write
from medrestore.report.case_page import VIEWER
from medrestore.report.charts import histogram
from medrestore.report.page import asset, number, times
from medrestore.report.tables import COLUMNS, SCHEMA
from medrestore.report.write import viewer_name


def table(folder):
    with (folder / "summary.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_the_tables_have_the_failures_first_and_nothing_in_place_of_what_is_missing(tmp_path):
    assert write(tmp_path / "new", [DONE, FAILED], "A batch") == tmp_path / "new/report.html"
    failed, done = table(tmp_path / "new")
    assert (failed["case"], failed["psnr_db"], failed["seconds"]) == ("ffff01", "", "")
    assert (done["shape_y"], done["spacing_z_mm"], float(done["psnr_db"])) == ("24", "2.0", 33.25)
    summary = json.loads((tmp_path / "new/summary.json").read_text())
    assert summary["counts"] == {"done": 1, "failed": 1, "skipped": 0}
    assert [case["peak_bytes"] for case in summary["cases"]] == [None, 2**30]
    assert list(summary["cases"][0]) == list(failed)


def test_results_are_sorted_by_their_verdict_and_the_column_sorts_by_it_again(tmp_path):
    verdicts = ["PASS", None, "FAIL", "WARN"]
    rows = [replace(DONE, case=f"c{n}", name=f"n{n}", verdict=word) for n, word in enumerate(verdicts)]
    write(tmp_path, [*rows, FAILED], "A batch")
    assert [row["verdict"] for row in table(tmp_path)] == ["", "FAIL", "WARN", "", "PASS"]
    page = (tmp_path / "report.html").read_text()
    cells = re.findall(r'<td(?: data-value="(\d)")?><span class="badge (\w+)">(FAIL|WARN|PASS)<', page)
    assert cells == [("0", "failed", "FAIL"), ("1", "warned", "WARN"), ("3", "done", "PASS")]
    heads = re.findall(r'data-column="(\d+)">([^<]+)<', page)
    assert ("3", "Verdict") in heads
    assert 'data-key="verdict"' in page
    assert 'class="badge failed">FAIL' in (tmp_path / "cases/c2.html").read_text()


def test_a_verdict_that_there_is_not_is_refused():
    with pytest.raises(ConfigError, match="verdict"):
        replace(DONE, verdict="GOOD")


@pytest.mark.parametrize("name", ["=HYPERLINK(1)", "+1", "-1", "@SUM(1)"])
def test_no_cell_of_the_csv_file_is_a_formula(name, tmp_path):
    write(tmp_path, [replace(DONE, name=name)], "A batch")
    assert table(tmp_path)[0]["name"] == f"'{name}"
    assert json.loads((tmp_path / "summary.json").read_text())["cases"][0]["name"] == name


@pytest.mark.parametrize("case", ["", "../up", "a/b", "a b", "-a", "x" * 101])
def test_an_id_that_cannot_name_a_page_is_refused(case):
    with pytest.raises(ConfigError, match="case id"):
        replace(DONE, case=case)


def test_a_value_that_is_no_number_is_missing(tmp_path):
    write(tmp_path, [replace(DONE, psnr=np.inf, ssim=np.nan)], "A batch")
    (row,) = table(tmp_path)
    assert (row["psnr_db"], row["ssim"]) == ("", "")


def test_two_cases_of_one_id_are_refused(tmp_path):
    with pytest.raises(OutputError, match="0a1b2c"):
        write(tmp_path, [DONE, replace(DONE, name="other")], "A batch")


def test_a_folder_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be made"):
        write(tmp_path / "file", [DONE], "A batch")


HOSTILE = '"><script>hit()</script><img src=x onerror=hit()>'


def test_names_and_causes_stay_text_wherever_they_come_up(tmp_path):
    row = replace(FAILED, name=HOSTILE, cause=HOSTILE, stage=HOSTILE, model=HOSTILE, modality=HOSTILE)
    write(tmp_path, [row, replace(DONE, output=f"a/{HOSTILE}.nii")], HOSTILE)
    for path, scripts in ((tmp_path / "report.html", 1), (tmp_path / "cases/ffff01.html", 0)):
        page = parsed(path)
        assert page.tags.count("script") == scripts
        assert "img" not in page.tags
        assert page.text.count(HOSTILE) >= 3


def test_missing_values_are_dashes_that_say_why(tmp_path):
    write(tmp_path, [FAILED, replace(DONE, psnr=None, ssim=None)], "A batch")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert page.count('title="no reference was given, or there is nothing to measure" role="img"') == 2
    assert page.count('title="the case failed" role="img"') == 7
    assert "nan" not in page.lower().replace("number.isnan", "")


@pytest.mark.parametrize("single", [False, True])
def test_every_page_forbids_the_network_and_names_its_scripts(tmp_path, pictures, single):
    write(tmp_path, [replace(DONE, pictures=pictures), FAILED], "A batch", single_files=single)
    for path in (tmp_path / "report.html", *(tmp_path / "cases").glob("*.html")):
        page = path.read_text(encoding="utf-8")
        policy = html.unescape(re.search(r'Security-Policy" content="([^"]+)"', page)[1])
        assert "default-src 'none'" in policy
        assert "http" not in policy
        codes = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
        digests = [base64.b64encode(hashlib.sha256(code.encode()).digest()).decode() for code in codes]
        assert re.findall(r"'sha256-([^']+)'", policy) == digests
        beside = re.findall(r'<script src="([^"]+)">', page)
        has_viewer = path.stem == DONE.case and not single
        assert beside == ([viewer_name()] if has_viewer else [])
        assert ("'self'" in policy) == has_viewer


@pytest.mark.parametrize("single", [False, True])
def test_the_viewer_keeps_its_licence_and_version(tmp_path, pictures, single):
    write(tmp_path, [replace(DONE, pictures=pictures)], "A batch", single_files=single)
    name = f"{DONE.case}.html" if single else viewer_name()
    code = (tmp_path / "cases" / name).read_text(encoding="utf-8")
    assert "NiiVue 0.69.0" in code
    assert "BSD 2-Clause License" in code
    assert "Copyright (c) 2021, Niivue" in code


def test_pages_of_small_scans_are_small_and_share_a_viewer(tmp_path):
    before = scan((24, 24, 24))
    preview(before, before.with_array(before.array - 1, Step("test")), None, tmp_path / "kept.npz")
    rows = [replace(DONE, case=f"{n:012x}", pictures=tmp_path / "kept.npz") for n in range(12)]
    write(tmp_path / "beside", rows, "A batch")
    found = {path.name: path.stat().st_size for path in (tmp_path / "beside/cases").iterdir()}
    assert found.pop(viewer_name()) == len(asset(VIEWER).encode())
    assert len(found) == 12 and max(found.values()) < 200_000
    write(tmp_path / "whole", rows, "A batch", single_files=True)
    whole = {path.name: path.stat().st_size for path in (tmp_path / "whole/cases").iterdir()}
    assert whole.keys() == found.keys() and min(whole.values()) > 2_000_000


def test_a_report_goes_from_one_form_to_the_other_and_mends_its_viewer(tmp_path, pictures):
    rows, page = [replace(DONE, pictures=pictures)], tmp_path / f"cases/{DONE.case}.html"
    write(tmp_path, rows, "A batch", single_files=True)
    whole = page.stat().st_size
    write(tmp_path, rows, "A batch")
    assert page.stat().st_size < whole - 2_000_000
    viewer = page.with_name(viewer_name())
    before = viewer.stat().st_mtime_ns
    write(tmp_path, rows, "A batch")
    assert viewer.stat().st_mtime_ns == before
    viewer.write_bytes(b"cut off")
    write(tmp_path, rows, "A batch")
    assert viewer.read_text(encoding="utf-8") == asset(VIEWER)


def test_a_report_without_pictures_has_no_viewer(tmp_path):
    write(tmp_path, [DONE, FAILED], "A batch")
    assert {path.suffix for path in (tmp_path / "cases").iterdir()} == {".html"}


def test_the_bound_is_on_the_page_and_in_the_tables(tmp_path):
    write(tmp_path, [replace(DONE, bound={"psnr": 31.25, "ssim": 0.9, "level": 0.9})], "A batch")
    (row,) = table(tmp_path)
    assert (row["least_psnr_db"], row["least_ssim"]) == ("31.25", "0.9")
    page = (tmp_path / "cases/0a1b2c.html").read_text()
    assert "PSNR 31.2 dB, SSIM 0.900, with a probability of 90%" in page


@pytest.mark.parametrize(
    "values",
    [
        *([3.0], [0.0, 0.0], [1, 2, 3, 4], [33.1, 35.2, 35.3], [*range(500)], [1e12, -1e12]),
        *([1e-7, 2e-7], [0.0, 1e-13], [1e-16, 2e-16], [1e9, 1e9 + 2]),
    ],
)
def test_a_histogram_counts_every_value_once(values):
    drawing = histogram(values, "Noise", "%")
    counts = [int(number) for number in re.findall(r"<title>(\d+) cases? from", drawing)]
    assert sum(counts) == len(values)
    assert len(re.findall("text-anchor=.middle", drawing)) in range(3, 9)


@pytest.mark.parametrize(
    ("value", "text"),
    [(2.345, "2.35"), (12345.6, "12346"), (2.3e-5, "0.0000230"), (-3e-5, "-0.0000300"), (0.0, "0.00")],
)
def test_a_number_is_written_out(value, text):
    assert number(value) == text


def test_sizes_of_any_length_are_written_out():
    assert (times((12345, 256)) or "").split()[::2] == ["12345", "256"]
    assert (times((0.44921875, 2.0)) or "").split()[::2] == ["0.4492", "2"]


def test_what_is_no_number_is_left_out(tmp_path):
    bound = {"psnr": float("nan"), "ssim": 0.9, "level": 0.9}
    write(tmp_path, [replace(DONE, further={"x/y": float("inf"), "x/z": 1.0}, bound=bound)], "A batch")
    (row,) = table(tmp_path)
    assert (row["least_psnr_db"], row["least_ssim"]) == ("", "")
    assert {"x/z": "1.0"}.items() <= row.items() and row.get("x/y", "") == ""


def test_old_files_are_replaced_and_no_temporary_file_is_left(tmp_path):
    write(tmp_path, [DONE], "First")
    write(tmp_path, [replace(DONE, name="second")], "Second")
    names = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert names == {"report.html", "summary.csv", "summary.json", "cases/0a1b2c.html"}
    assert "First" not in (tmp_path / "report.html").read_text(encoding="utf-8")


DOCS = Path(__file__).parents[2] / "docs/reference/report.md"


@pytest.mark.skipif(not DOCS.is_file(), reason="needs the source tree")
def test_the_page_of_the_report_has_every_column():
    rows = re.search(r"^## Columns$(.*?)^## ", DOCS.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)[1]
    cells = [line.split(" | ")[0] for line in rows.splitlines() if line.startswith("| `")]
    assert re.findall(r"`(\w+)`", " ".join(cells)) == list(COLUMNS)
    assert SCHEMA in rows


def test_a_page_is_written_again_only_if_something_changed(tmp_path, pictures):
    def written(row, title="A batch"):
        write(tmp_path, [row], title)
        return (tmp_path / "cases/0a1b2c.html").stat().st_ino

    row = replace(DONE, pictures=pictures)
    first = written(row)
    assert written(row) == first
    changed = written(replace(row, seconds=13.0))
    assert changed != first
    assert written(replace(row, seconds=13.0), "Another") != changed
    last = written(row)
    preview(scan(seed=1), scan(seed=2), None, pictures)
    assert written(row) != last


def test_a_name_that_is_no_utf_8_is_written_with_a_mark_in_place(tmp_path):
    name = b"caf\xe9.nii".decode("utf-8", "surrogateescape")
    write(tmp_path, [replace(DONE, name=name, output=name)], name)
    assert "caf?.nii" in (tmp_path / "report.html").read_text(encoding="utf-8")
    assert json.loads((tmp_path / "summary.json").read_text())["cases"][0]["name"] == name


def test_distributions_are_of_two_cases_or_more_and_noise_is_apart_by_modality(tmp_path):
    def drawn(*rows):
        write(tmp_path, [replace(row, case=str(n)) for n, row in enumerate(rows)], "A batch")
        page = (tmp_path / "report.html").read_text(encoding="utf-8")
        return re.findall(r"<figcaption><b>(.*?)</b> (\d+) cases", page)

    ct = replace(DONE, modality="CT", psnr=None, ssim=None)
    assert drawn(DONE) == []
    shared = [("Time / s", "4"), ("Peak memory / GiB", "4")]
    mr = [("PSNR / dB", "2"), ("SSIM", "2")]
    assert drawn(DONE, DONE, ct, ct) == [("Noise, CT / %", "2"), ("Noise, MR / %", "2"), *mr, *shared]
    assert drawn(DONE, DONE)[0] == ("Noise / %", "2")


def test_a_case_that_was_done_after_all_has_its_pictures_and_why_it_was_tried_again(tmp_path, pictures):
    row = replace(DONE, pictures=pictures, attempts=2, cause="out of memory")
    write(tmp_path, [row], "A batch")
    assert parsed(tmp_path / "report.html").tags.count("img") == 3
    assert "out of memory" in parsed(tmp_path / "cases/0a1b2c.html").text


def test_a_report_of_nothing_says_so(tmp_path):
    write(tmp_path, [], "A batch")
    page = parsed(tmp_path / "report.html")
    assert "No case has come to an end yet" in page.text
    assert "script" not in page.tags
