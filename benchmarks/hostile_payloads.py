"""Send broken, huge and hostile bytes to "serve_bytes", each followed by a valid image.

    python benchmarks/hostile_payloads.py

A small network with random weights is exported and opened by TensorFlow's C++ loader in a
process of its own, without TensorFlow's Python, as a server does. Fails if a payload is answered,
the error isn't the expected one, the process ends, or the next valid image isn't segmented
with the same classes. tests/export/test_to_saved_model.py asserts the same.
"""

import argparse
import os
import re
import sys
import tempfile
import time
from pathlib import Path

from measure import environment, progress

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))
import c_session
import hostile_payloads


def main():
    """Print the table."""
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    from keras_psp import DilatedResNet, PSPNet, export

    backbone = DilatedResNet(18, stem_filters=(8,), name="backbone")
    payloads = hostile_payloads.payloads()
    good = hostile_payloads.encoded(hostile_payloads.noise(), "PNG")
    wrong = 0
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        progress("exporting")
        export.saved_model(PSPNet(4, backbone=backbone), Path(folder) / "saved")
        with c_session.CSession(Path(folder) / "saved") as session:
            expected = session("serve_bytes", [good])
            start = memory(session)
            for payload in payloads:
                began = time.perf_counter()
                answer = refusal(session, payload.content)
                milliseconds = 1e3 * (time.perf_counter() - began)
                next_one = session.returncode is None and session("serve_bytes", [good]) == expected
                fine = payload.refused in answer and next_one
                wrong += not fine
                rows.append((payload, answer, milliseconds, next_one))
                progress(f"{payload.what}: {'as it should' if fine else 'WRONG'}")
            more = memory(session) - start
    print(f"{environment(['tensorflow'])}\n")
    print("| payload | bytes | error | ms | next image segmented |")
    print("|---|---|---|---|---|")
    for payload, answer, milliseconds, next_one in rows:
        print(
            f"| {payload.what} | {len(payload.content):,} | {answer} | {milliseconds:.0f} "
            f"| {'yes' if next_one else '**no**'} |"
        )
    print(f"\n{len(rows)} payloads, {wrong} not as they should; {more:+.0f} MB of peak memory.")
    return wrong > 0


def refusal(session, content):
    """The error in one line, without TensorFlow's names of nodes."""
    try:
        session("serve_bytes", [content])
    except RuntimeError as error:
        return re.sub(r"assertion failed: \[(.*)\]", r"\1", str(error).split("\n")[0])
    except EOFError as error:
        return f"**{error}**"
    return "**answered**"


def memory(session):
    """Peak resident megabytes of the process; 0 where the system doesn't tell."""
    status = Path(f"/proc/{session.process.pid}/status")
    found = re.search(r"VmHWM:\s+(\d+)", status.read_text() if status.exists() else "")
    return int(found[1]) / 1e3 if found else 0.0


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    raise SystemExit(main())
