"""SimpleITK's process: a crash or a hang costs one file, and nothing is left behind."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from softoverlap._reader import process, read, stop
from softoverlap.images import load_image, read_limits
from tests.support.itk_headers import meta, nrrd

SCRIPT = """
from softoverlap._reader import process
from softoverlap.images import load_image
load_image({path!r})
print(process._reader.process.pid, flush=True)
{then}
"""


BYTES_AS_TEXT = nrrd(bytes(1680), sizes="12 14 10", encoding="ascii")


@pytest.fixture
def scan(tmp_path):
    path = tmp_path / "scan.mha"
    path.write_bytes(meta())
    return path


def request(path, io="MetaImageIO"):
    return {"kind": "file", "path": str(path), "io": io, "room": 1 << 20}


def reader_pid(scan):
    load_image(scan)
    assert process._reader is not None
    return process._reader.process.pid


def is_running(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def wait_until_gone(pid):
    end = time.monotonic() + 60
    while is_running(pid) and time.monotonic() < end:
        time.sleep(0.02)
    return not is_running(pid)


@pytest.mark.parametrize("kind", ["axes", "text"])
def test_a_crash_is_an_error_of_this_file_and_the_next_one_is_read(tmp_path, scan, kind):
    path = tmp_path / f"bad.{'mha' if kind == 'axes' else 'nrrd'}"
    path.write_bytes(meta(NDims="-3") if kind == "axes" else BYTES_AS_TEXT)
    io = "MetaImageIO" if kind == "axes" else "NrrdImageIO"
    words = r"bad must be readable: the reader crashed on this file \(SIG"
    with pytest.raises(ValueError, match=words):
        read(request(path, io), name="bad", seconds=60)
    assert load_image(scan).data.shape == (6, 5, 4)


def test_a_reader_that_does_not_end_is_stopped(tmp_path, scan):
    pipe = tmp_path / "pipe.mha"
    os.mkfifo(pipe)
    load_image(scan)
    with pytest.raises(ValueError, match=r"pipe must be .* did not end within 0\.5 s.*`read_time"):
        read(request(pipe), name="pipe", seconds=0.5)
    assert load_image(scan).data.shape == (6, 5, 4)


def test_the_process_stays_for_the_next_file_and_one_that_was_killed_is_replaced(scan):
    first = reader_pid(scan)
    assert reader_pid(scan) == first
    os.kill(first, 9)
    process._reader.process.wait()
    assert reader_pid(scan) != first


def test_a_refusal_leaves_the_process_alive(tmp_path, scan):
    first = reader_pid(scan)
    with pytest.raises(ValueError, match="gone must be readable, got"):
        read(request(tmp_path / "gone.mha"), name="gone", seconds=60)
    assert reader_pid(scan) == first


def test_stop_ends_the_process(scan):
    pid = reader_pid(scan)
    stop()
    assert not is_running(pid)


def test_threads_take_turns(scan):
    shapes = []
    threads = [
        threading.Thread(target=lambda: shapes.append(load_image(scan).data.shape))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert shapes == [(6, 5, 4)] * 8


def _pid_in_worker(path, pipe):
    pipe.send(reader_pid(path))


@pytest.mark.parametrize("how", ["fork", "spawn"])
def test_a_daemonic_worker_has_a_reader_of_its_own_that_ends_with_it(scan, how):
    if how == "spawn" and not os.environ.get("PYTHONPATH"):
        pytest.skip("a spawned process must find the tests")
    ours = reader_pid(scan)
    context = multiprocessing.get_context(how)
    near, far = context.Pipe()
    worker = context.Process(target=_pid_in_worker, args=(scan, far), daemon=True)
    worker.start()
    theirs = near.recv()
    worker.join()
    assert theirs != ours
    assert wait_until_gone(theirs)
    assert reader_pid(scan) == ours


@pytest.mark.slow
@pytest.mark.parametrize("then", ["", "import os; os.kill(os.getpid(), 9)"])
def test_the_process_ends_with_a_script_without_guard_however_that_ends(scan, tmp_path, then):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(path=str(scan), then=then))
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
    assert wait_until_gone(int(done.stdout)), done.stderr


def test_a_name_that_is_not_in_utf8_is_refused_before_the_reader_sees_it(tmp_path, scan):
    other = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    other.mkdir()
    for path in (other / "scan.mha", other.with_suffix(".mha")):
        path.write_bytes(scan.read_bytes())
        with pytest.raises(ValueError, match="must have a name in UTF-8, .* rename it"):
            load_image(path)


def test_limits_hold_within_their_block(tmp_path, scan):
    with (
        read_limits(max_memory="500B"),
        pytest.raises(ValueError, match=r"scan\.mha needs 600 bytes of memory, above the limit"),
    ):
        load_image(scan)
    assert load_image(scan).data.shape == (6, 5, 4)
