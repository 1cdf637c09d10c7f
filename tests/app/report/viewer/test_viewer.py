"""The viewer: what it lists, what it serves and to whom, and the folder to hand over."""

from __future__ import annotations

import base64
import csv
import gzip
import http.client
import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK
import torch
from typer.testing import CliRunner

from softoverlap.app.cli import app
from softoverlap.app.cohort import ScorePair, ScoreSettings, score_cohort
from softoverlap.app.report.viewer import folder as folder_module
from softoverlap.app.report.viewer.folder import write_viewer
from softoverlap.app.report.viewer.layers import Layer, nifti_bytes
from softoverlap.app.report.viewer.pages import CASES, PAGE, STATIC, Viewer, page_files, read_viewer
from softoverlap.app.report.viewer.server import ViewerServer
from softoverlap.images import save_nifti, write_boxes
from tests.support.processes import takes_interrupts

AFFINE = torch.diag(torch.tensor([-1.0, 1.0, 2.0, 1.0], dtype=torch.float64))
EVIL = "<img src=x onerror=alert(1)>"


def mask_of(*boxes, value=0.8):
    mask = torch.zeros(12, 10, 8)
    for start, stop in boxes:
        mask[start:stop, 2:6, 2:6] = value
    return mask


def results_in(folder, cases, **settings):
    """Score cases, each a name with the values of prediction and truth, or with paths."""
    pairs = []
    for name, sides in cases.items():
        paths = []
        for side, value in zip(("pred", "truth"), sides, strict=True):
            path = value
            if isinstance(value, torch.Tensor):
                path = folder / side / f"{name}.nii.gz"
                path.parent.mkdir(exist_ok=True, parents=True)
                save_nifti(path, value, AFFINE)
            paths.append(path)
        truths = paths[1] if isinstance(paths[1], tuple) else (paths[1],)
        pairs.append(ScorePair(name, paths[0], truths))
    score_cohort(pairs, folder / "results", ScoreSettings(**settings))
    return folder / "results"


@pytest.fixture
def results(tmp_path):
    """A good case, one that misses a lesion and finds a false one, and a damaged file."""
    damaged = tmp_path / f"{EVIL}.nii.gz"
    damaged.write_bytes(b"no image")
    good = mask_of((1, 4))
    cases = {
        "good": (good, good),
        "bad": (mask_of((1, 3)), mask_of((7, 10))),
        EVIL: (damaged, damaged),
    }
    return results_in(tmp_path, cases)


def listed(viewer, addresses=None):
    """The list of cases as the page reads it."""
    text = viewer.listing(addresses or {}).decode()
    assert text.startswith("window.softoverlapViewer = ")
    return json.loads(text.removeprefix("window.softoverlapViewer = ").rstrip(";\n"))


def values_of(content):
    """Values and affine of NIfTI bytes."""
    content = gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
    image = nibabel.Nifti1Image.from_bytes(content)
    return image.get_fdata(), image.affine


# The list


def test_every_row_is_listed_with_scores_boxes_and_outcomes(results):
    good, bad, evil = listed(read_viewer(results))["cases"]
    assert [good["name"], bad["name"], evil["name"]] == ["good", "bad", EVIL]
    assert good["scores"]["soft_dice"] == 1
    kinds = [(box["kind"], box["outcome"]) for box in bad["boxes"]]
    assert kinds == [("truth", "missed"), ("found", "false positive")]
    assert bad["boxes"][0]["box"] == [7, 2, 2, 10, 6, 6]
    assert bad["boxes"][1]["score"] == pytest.approx(0.8)
    assert "readable NIfTI" in evil["error"]
    assert good["boxes"][0]["outcome"] == "found"


def test_columns_are_listed_with_their_words_and_with_which_end_is_bad(results):
    content = listed(read_viewer(results))
    columns = {column["name"]: column for column in content["columns"]}
    assert content["rankedBy"] == "soft_dice"
    assert not {"case", "label", "error", "kind"} & set(columns)
    assert columns["volume_bias_ml"]["heading"] == "Volume bias (ml)"
    assert columns["lesion_recall"]["words"].startswith("lesion_recall: share of the true lesions")
    bad = {name for name, column in columns.items() if column["highIsBad"]}
    assert {"false_positives", "brier", "volume_bias_ml"} <= bad
    assert not {"soft_dice", "lesions"} & bad
    near_zero = {name for name, column in columns.items() if column["bestNearZero"]}
    assert near_zero == {"volume_bias_ml", "relative_volume_bias"} & set(columns)


def test_a_displacement_of_rounding_size_is_no_score(results):
    name, table = "geometry_displacement_voxels", results / "cases.csv"
    for size, shown in (("3e-15", False), ("0.004", True)):
        with table.open(newline="") as file:
            rows = list(csv.DictReader(file))
        with table.open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows({**row, name: size} for row in rows)
        case = listed(read_viewer(results))["cases"][0]
        assert (name in case["scores"]) == shown


def test_volumes_are_named_by_numbers_and_never_by_their_files(results):
    names = list(read_viewer(results).layers)
    assert names[:2] == ["data/0/truth", "data/0/pred"]
    assert all(re.fullmatch(r"data/\d+/(image|pred|truth)", name) for name in names)


def test_scans_are_found_by_the_name_of_the_case(results, tmp_path):
    (tmp_path / "scans").mkdir()
    save_nifti(tmp_path / "scans" / "good_flair.nii.gz", mask_of(), AFFINE)
    for images in (tmp_path / "scans", f"{tmp_path}/scans/{{case}}_flair.nii.gz"):
        viewer = read_viewer(results, images=images)
        assert viewer.layers["data/0/image"].paths[0].name == "good_flair.nii.gz"
        assert "data/1/image" not in viewer.layers


@pytest.mark.bad_input
def test_a_folder_without_results_and_a_wrong_folder_of_scans_are_errors(results, tmp_path):
    with pytest.raises(FileNotFoundError, match="must hold cases.csv"):
        read_viewer(tmp_path)
    with pytest.raises(NotADirectoryError, match="must be a folder or a pattern"):
        read_viewer(results, images=tmp_path / "gone")


def test_boxes_alone_bring_their_affine(tmp_path):
    path = tmp_path / "boxes.json"
    boxes = torch.tensor([[1.0, 1, 1, 3, 4, 5]])
    write_boxes(path, boxes, scores=torch.tensor([0.5]), affine=AFFINE)
    (case,) = listed(read_viewer(results_in(tmp_path, {"a": (path, path)})))["cases"]
    assert case["affine"] == AFFINE.tolist()
    assert [box["kind"] for box in case["boxes"]] == ["truth", "found"]
    assert case["boxes"][0]["box"] == case["boxes"][1]["box"] == [1, 1, 1, 3, 4, 5]


def test_a_row_of_a_label_shows_its_label_alone(tmp_path):
    labels = torch.zeros(12, 10, 8, dtype=torch.uint8)
    labels[1:3, 1:3, 1:3], labels[6:9, 6:9, 5:7] = 1, 2
    results = results_in(
        tmp_path, {"a": (labels, labels)}, labels=(1, 2), values="labels", truth_values="labels"
    )
    viewer = read_viewer(results)
    assert [case.label for case in viewer.cases] == ["1", "2"]
    for number in (0, 1):
        values, _ = values_of(nifti_bytes(viewer.layers[f"data/{number}/pred"]))
        np.testing.assert_array_equal(values, labels.numpy() == number + 1)


# Volumes


def test_a_mask_that_needs_nothing_is_taken_as_it_lies(results):
    layer = read_viewer(results).layers["data/0/pred"]
    assert layer.plain == layer.paths[0]


@pytest.mark.parametrize(
    "change",
    [
        lambda image: image.header.set_xyzt_units("meter"),
        lambda image: image.set_qform(np.diag([1.0, 1, 1, 1]), code=1),
        lambda image: (image.set_sform(None, 0), image.set_qform(None, 0)),
    ],
    ids=["metres", "two places", "no place"],
)
def test_a_header_that_viewers_read_in_another_way_is_written_anew(tmp_path, change):
    image = nibabel.Nifti1Image(np.ones((4, 3, 2), np.float32), np.diag([2.0, 2, 2, 1]))
    image.set_sform(image.affine, code=1)
    change(image)
    path = tmp_path / "mask.nii.gz"
    nibabel.save(image, path)
    layer = Layer("pred", (path,), "auto")
    assert layer.plain is None
    _, affine = values_of(nifti_bytes(layer))
    scale = 1000 if image.header.get_xyzt_units()[0] == "meter" else 1
    np.testing.assert_allclose(affine[:3], scale * nibabel.load(path).affine[:3])


def test_percent_becomes_probability_and_raters_become_their_mean(tmp_path):
    paths = [tmp_path / f"rater{number}.nii.gz" for number in (1, 2)]
    for path, value in zip(paths, (100.0, 50.0), strict=True):
        save_nifti(path, mask_of((2, 5), value=value), AFFINE)
    values, affine = values_of(nifti_bytes(Layer("truth", tuple(paths), "percent")))
    np.testing.assert_allclose(values, mask_of((2, 5), value=0.75))
    np.testing.assert_allclose(affine, AFFINE)


def test_raters_on_a_fourth_axis_become_their_mean(tmp_path):
    raters = np.stack([mask_of((2, 5), value=1.0), mask_of((2, 4), value=1.0)], axis=3)
    path = tmp_path / "raters.nii.gz"
    nibabel.save(nibabel.Nifti1Image(raters, AFFINE.numpy()), path)
    layer = Layer("truth", (path,), "auto")
    assert layer.plain is None
    np.testing.assert_allclose(values_of(nifti_bytes(layer))[0], raters.mean(axis=3))


def test_other_formats_become_nifti_in_the_same_place(tmp_path):
    image = SimpleITK.GetImageFromArray(np.arange(24, dtype=np.float32).reshape(2, 3, 4))
    image.SetOrigin((5, 6, 7))
    path = tmp_path / "scan.nrrd"
    SimpleITK.WriteImage(image, path)
    values, affine = values_of(nifti_bytes(Layer("image", (path,))))
    assert values[3, 2, 1] == 23
    np.testing.assert_allclose(affine @ [0, 0, 0, 1], [-5, -6, 7, 1])


def test_a_prediction_scored_by_index_lies_on_the_grid_of_the_truth(tmp_path):
    truth, shifted = mask_of((2, 5)), AFFINE.clone()
    shifted[0, 3] += 0.4
    pred = tmp_path / "pred.nii.gz"
    save_nifti(pred, truth, shifted)
    results = results_in(tmp_path, {"a": (pred, truth)}, geometry="index")
    layer = read_viewer(results).layers["data/0/pred"]
    values, affine = values_of(nifti_bytes(layer))
    np.testing.assert_allclose(affine, AFFINE)
    np.testing.assert_allclose(values, truth)


# The server


@contextmanager
def served(viewer):
    with ViewerServer(viewer) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def ask(server, path, *, method="GET", host=None):
    """Status, headers and body; the path is sent as it is."""
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=10)
    try:
        connection.putrequest(method, path, skip_host=True)
        hosts = [f"127.0.0.1:{server.server_port}"] if host is None else host
        for one in hosts:
            connection.putheader("Host", one)
        connection.endheaders()
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()
    finally:
        connection.close()


def test_the_page_and_all_it_names_are_served(results):
    viewer = read_viewer(results)
    with served(viewer) as server:
        root = f"/{server.key}"
        for name in (*STATIC, CASES):
            assert ask(server, f"{root}/{name}")[0] == 200
        text = ask(server, f"{root}/{CASES}")[2].decode()
        assert "data/0/pred.nii.gz" in text
        for name in ("data/0/pred", "data/1/truth"):
            status, headers, body = ask(server, f"{root}/{name}.nii.gz")
            assert status == 200
            assert headers["Content-Length"] == str(len(body))
            assert body == viewer.layers[name].paths[0].read_bytes()
        head = ask(server, f"{root}/data/0/pred.nii.gz", method="HEAD")
        assert (head[0], head[2]) == (200, b"")
        assert int(head[1]["Content-Length"]) > 0


def test_a_file_that_cannot_be_read_is_told_and_the_server_goes_on(results):
    with served(read_viewer(results)) as server:
        status, _, body = ask(server, f"/{server.key}/data/2/pred.nii.gz")
        assert status == 500
        assert b"must be a readable NIfTI file" in body
        assert ask(server, f"/{server.key}/index.html")[0] == 200


def reachable(address, port):
    try:
        socket.create_connection((address, port), timeout=2).close()
    except OSError:
        return False
    return True


def test_the_server_listens_on_loopback_alone(results):
    with served(read_viewer(results)) as server:
        assert server.server_address[0] == "127.0.0.1"
        others = {info[4][0] for info in socket.getaddrinfo(socket.gethostname(), None)}
        for address in {"127.0.0.2", "::1", *others} - {"127.0.0.1"}:
            assert not reachable(address, server.server_port)
        assert reachable("127.0.0.1", server.server_port)


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/index.html",
        "/wrong-key/index.html",
        "/{key}",
        "/{key}/",
        "/{key}/../../../etc/passwd",
        "/{key}/data/0/../../../../etc/passwd",
        "/{key}/%2e%2e/%2e%2e/etc/passwd",
        "/{key}/..%2f..%2fetc%2fpasswd",
        "/{key}//etc/passwd",
        "//etc/passwd",
        "/{key}/./index.html",
        "/{key}/index.html/..",
        "/{key}/data/0/",
        "/{key}/data/99/pred.nii.gz",
        "/{key}/__init__.py",
        "/{key}/{unlisted}",
        "http://127.0.0.1/{key}/index.html",
        "/{key}/index.html%00.js",
    ],
)
def test_nothing_else_is_served(results, tmp_path, path):
    unlisted = tmp_path / "pred" / "secret.nii.gz"
    shutil.copy(tmp_path / "pred" / "good.nii.gz", unlisted)
    with served(read_viewer(results)) as server:
        status, headers, body = ask(server, path.format(key=server.key, unlisted=unlisted))
        assert status == 404
        assert body == b"there is nothing of that name"
        assert "default-src 'none'" in headers["Content-Security-Policy"]


def test_other_hosts_are_refused_and_this_one_is_known_by_two_names(results):
    with served(read_viewer(results)) as server:
        page, port = f"/{server.key}/index.html", server.server_port
        right = f"127.0.0.1:{port}"
        for host in ("evil.example", f"evil.example:{port}", "127.0.0.1", f"127.0.0.1.evil:{port}"):
            assert ask(server, page, host=[host])[0] == 403
        assert ask(server, page, host=[])[0] == 403
        assert ask(server, page, host=[right, "evil.example"])[0] == 403
        assert ask(server, page, host=[f"localhost:{port}"])[0] == 200
        assert ask(server, page, host=[right])[0] == 200


def test_the_server_only_reads(results):
    with served(read_viewer(results)) as server:
        for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS"):
            assert ask(server, f"/{server.key}/index.html", method=method)[0] == 501


def test_every_answer_forbids_what_the_page_does_not_need(results):
    with served(read_viewer(results)) as server:
        headers = ask(server, f"/{server.key}/index.html")[1]
    policy = headers["Content-Security-Policy"]
    assert "unsafe" not in policy
    assert "http" not in policy
    assert "frame-ancestors 'none'" in policy
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert "Access-Control-Allow-Origin" not in headers


def test_every_server_has_a_key_of_its_own():
    with ViewerServer(Viewer((), "")) as first, ViewerServer(Viewer((), "")) as second:
        assert first.key != second.key
        assert len(first.key) >= 20


# The folder


def decoded(path):
    """Name and bytes that a volume's script hands to the page."""
    match = re.fullmatch(rb'softoverlapVolume\("([^"]+)", "([^"]*)"\);\n', path.read_bytes())
    assert match
    return match[1].decode(), base64.b64decode(match[2])


def test_the_folder_holds_copies_and_says_nothing_of_where_they_were(results, tmp_path):
    viewer = read_viewer(results)
    written = write_viewer(viewer, tmp_path / "viewer")
    name, content = decoded(tmp_path / "viewer" / "data" / "1" / "pred.js")
    assert name == "data/1/pred"
    assert content == viewer.layers[name].paths[0].read_bytes()
    files = [path for path in (tmp_path / "viewer").rglob("*") if path.is_file()]
    assert written.size == sum(path.stat().st_size for path in files)
    assert {path.name for path in files} == {*STATIC, CASES, "pred.js", "truth.js"}
    cases = json.loads((tmp_path / "viewer" / CASES).read_text().split(" = ", 1)[1].rstrip(";\n"))
    good = cases["cases"][0]
    assert good["volumes"] == {"truth": "data/0/truth.js", "pred": "data/0/pred.js"}
    assert str(tmp_path) not in json.dumps(good)


def test_an_uncompressed_file_is_compressed_in_the_folder(tmp_path):
    path = tmp_path / "pred.nii"
    save_nifti(path, mask_of((2, 5)), AFFINE)
    results = results_in(tmp_path, {"a": (path, path)})
    write_viewer(read_viewer(results), tmp_path / "viewer")
    content = decoded(tmp_path / "viewer" / "data" / "0" / "pred.js")[1]
    assert gzip.decompress(content) == path.read_bytes()


def test_a_volume_that_cannot_be_copied_is_named_in_the_folder(results, tmp_path, monkeypatch):
    written = write_viewer(read_viewer(results), tmp_path / "viewer")
    assert len(written.failed) == 2
    assert "must be a readable NIfTI file" in written.failed[0]
    assert not (tmp_path / "viewer" / "data" / "2").exists()
    assert "must be a readable NIfTI file" in (tmp_path / "viewer" / CASES).read_text()
    monkeypatch.setattr(folder_module, "MAX_BYTES", 10)
    written = write_viewer(read_viewer(results), tmp_path / "small")
    assert len(written.failed) == 6
    assert "serve the viewer" in written.failed[0]


def test_only_a_viewer_is_written_over_and_only_if_asked(results, tmp_path):
    viewer, folder = read_viewer(results), tmp_path / "viewer"
    write_viewer(viewer, folder)
    with pytest.raises(FileExistsError, match="overwrite it or name another folder"):
        write_viewer(viewer, folder)
    write_viewer(Viewer((), "nothing"), folder, overwrite=True)
    assert not (folder / "data").exists()
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="found notes.txt"):
        write_viewer(viewer, folder, overwrite=True)
    with pytest.raises(NotADirectoryError, match="must be a folder"):
        write_viewer(viewer, folder / "notes.txt")


# The page


def test_the_scripts_never_read_text_as_html_or_code():
    for name, source in page_files().items():
        if name.endswith((".js", ".html")) and not name.startswith("niivue"):
            text = source.read_text(encoding="utf-8")
            for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
                assert word not in text, name
            assert not re.search(r"https?://", text), name
            assert not re.search(r"\son\w+=", text), name


def test_the_page_has_all_its_files_and_the_licences_of_what_is_bundled():
    names = {path.name for path in Path(str(PAGE)).iterdir() if path.is_file()}
    assert names == set(STATIC)
    licences = (PAGE / "niivue-LICENSES.txt").read_text(encoding="utf-8")
    for words in ("BSD 2-Clause License", "Copyright (c) 2021, Niivue", "gl-matrix", "fflate"):
        assert words in licences
    page = (PAGE / "index.html").read_text(encoding="utf-8")
    assert set(re.findall(r'(?:src|href)="([^":,]+)"', page)) == {
        *STATIC, CASES
    } - {"index.html", "niivue-LICENSES.txt"}  # fmt: skip


# The command


def run(*arguments, status=0):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == status, result.output
    return " ".join(result.output.split())


def test_report_writes_the_viewer_and_says_how_large_it_is(results, tmp_path):
    text = run("report", results, "--viewer", tmp_path / "viewer")
    assert re.search(r"index.html: \d+\.\d MB, with 4 copies of scans and masks", text)
    assert "not shown: " in text
    assert (tmp_path / "viewer" / "index.html").is_file()
    assert "overwrite" in run("report", results, "--viewer", tmp_path / "viewer", status=2)


@pytest.mark.bad_input
def test_report_takes_no_page_and_viewer_at_once(results, tmp_path):
    text = run("report", results, "--serve", "--output", tmp_path / "page.html", status=2)
    assert "--output names the page" in text
    assert "must hold cases.csv" in run("report", tmp_path, "--serve", status=2)


@pytest.mark.slow
def test_report_serves_until_it_is_interrupted(results):
    command = [sys.executable, "-u", "-m", "softoverlap", "report", str(results), "--serve"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, preexec_fn=takes_interrupts
    ) as process:
        try:
            assert process.stdout
            url = process.stdout.readline().strip()
            match = re.fullmatch(r"http://127\.0\.0\.1:(\d+)(/.+)", url)
            assert match, url
            connection = http.client.HTTPConnection("127.0.0.1", int(match[1]), timeout=10)
            connection.request("GET", match[2])
            assert connection.getresponse().status == 200
            connection.close()
            process.send_signal(signal.SIGINT)
            assert process.wait(20) == 0
        finally:
            process.kill()
