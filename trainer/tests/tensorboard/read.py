"""Prints, as JSON, what TensorBoard reads in the folder of a run: per tag the steps and values of scalars, the steps and sizes of images.

    python read.py RUN
"""

import json
import sys

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

events = EventAccumulator(sys.argv[1], size_guidance={"scalars": 0, "images": 0})
events.Reload()
tags = events.Tags()
print(
    json.dumps(
        {
            "scalars": {tag: [[event.step, event.value] for event in events.Scalars(tag)] for tag in tags["scalars"]},
            "images": {
                tag: [
                    [event.step, event.width, event.height, event.encoded_image_string[:4].hex()]
                    for event in events.Images(tag)
                ]
                for tag in tags["images"]
            },
        }
    )
)
