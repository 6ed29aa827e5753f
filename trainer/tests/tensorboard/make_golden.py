"""Writes golden.tfevents with TensorBoard's own messages and record writer (checked with tensorboard 2.21).

    pip install tensorboard && python make_golden.py

A unit test of `src/run/record/tensorboard.rs` expects these bytes.
"""

from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

EVENTS = [
    Event(step=0, file_version="brain.Event:2"),
    Event(step=11, session_log=SessionLog(status=SessionLog.START)),
    Event(
        step=20,
        summary=Summary(
            value=[
                Summary.Value(tag="energy_difference", simple_value=-0.125),
                Summary.Value(tag="loss", simple_value=0.0),
            ]
        ),
    ),
    Event(
        step=1 << 40,
        summary=Summary(
            value=[
                Summary.Value(
                    tag="data",
                    image=Summary.Image(height=2, width=300, colorspace=3, encoded_image_string=bytes(range(256))),
                )
            ]
        ),
    ),
]

with open(Path(__file__).parent / "golden.tfevents", "wb") as file:
    writer = RecordWriter(file)
    for event in EVENTS:
        event.wall_time = 1_700_000_000.25
        writer.write(event.SerializeToString())
    writer.flush()
