"""What a rival writes of its samples."""

import json
import statistics

from machine import surroundings


def summary(unit, values, eager, digits):
    """Median, quartiles and the ratio to the median of PyTorch eager, as a part of a row."""
    lower, middle, upper = statistics.quantiles(values, n=4)
    return {
        unit: round(middle, digits),
        "quartiles": [round(lower, digits), round(upper, digits)],
        "ratio_to_pytorch_eager": round(eager / middle, 4),
    }


def write_report(options, rows):
    """Rows with the machine, the versions and the date."""
    result = {**surroundings(), "rounds": options.rounds, "rows": list(rows)}
    options.output.write_text(json.dumps(result, indent=1) + "\n")
