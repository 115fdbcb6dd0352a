"""A recording to be killed: python -m tests.stepwise.recording.killed FOLDER RECORDS."""

from __future__ import annotations

import sys
from pathlib import Path

from stepwise.routers import Always
from tests.stepwise.recording.worlds import PROBLEMS, Killed, open_recording, recording_engine

if __name__ == "__main__":
    recording = open_recording(Path(sys.argv[1]))
    recording.add = Killed(recording, int(sys.argv[2]))  # type: ignore[method-assign]
    engine, _ = recording_engine(recording)
    for problem in PROBLEMS:
        engine.solve_sync(problem, Always("small"))
