"""Sends broken, huge and hostile bytes to "serve_bytes", each followed by a valid image.

    python benchmarks/hostile_payloads.py

Exports a small network with random weights and opens it with TensorFlow's C++ loader in a separate
process without TensorFlow's Python package, like a server. Fails if a payload doesn't raise the
expected error, the process ends, or the next valid image gets other classes.
tests/export/test_to_saved_model.py asserts the same.
"""

import argparse
import os
import re
import sys
import tempfile
import time
from pathlib import Path

from measure import environment, progress

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from support import c_session, hostile_payloads


def main():
    """Prints the table."""
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    from support.networks import tiny_pspnet

    from keras_psp import export

    payloads = hostile_payloads.payloads()
    good = hostile_payloads.encoded(hostile_payloads.noise(), "PNG")
    wrong = 0
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        progress("exporting")
        export.saved_model(tiny_pspnet(), Path(folder) / "saved")
        with c_session.CSession(Path(folder) / "saved") as session:
            expected = session("serve_bytes", [good])
            start = memory(session)
            for payload in payloads:
                sent = time.perf_counter()
                error = error_of(session, payload.content)
                milliseconds = 1e3 * (time.perf_counter() - sent)
                next_one = session.returncode is None and session("serve_bytes", [good]) == expected
                fine = payload.refused in error and next_one
                wrong += not fine
                rows.append((payload, error, milliseconds, next_one))
                progress(f"{payload.what}: {'ok' if fine else 'WRONG'}")
            more = memory(session) - start
    print(f"{environment(['tensorflow'])}\n")
    print("| payload | bytes | error | ms | next image segmented |")
    print("|---|---|---|---|---|")
    for payload, error, milliseconds, next_one in rows:
        print(
            f"| {payload.what} | {len(payload.content):,} | {error} | {milliseconds:.0f} "
            f"| {'yes' if next_one else '**no**'} |"
        )
    print(f"\n{len(rows)} payloads, {wrong} wrong; {more:+.0f} MB of peak memory.")
    return wrong > 0


def error_of(session, content):
    """The error in one line, without TensorFlow's node names."""
    try:
        session("serve_bytes", [content])
    except RuntimeError as error:
        return re.sub(r"assertion failed: \[(.*)\]", r"\1", str(error).split("\n")[0])
    except EOFError as error:
        return f"**{error}**"
    return "**no error**"


def memory(session):
    """Peak resident megabytes of the process; 0 if the system doesn't report it."""
    status = Path(f"/proc/{session.process.pid}/status")
    peak = re.search(r"VmHWM:\s+(\d+)", status.read_text() if status.exists() else "")
    return int(peak[1]) / 1e3 if peak else 0.0


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    raise SystemExit(main())
