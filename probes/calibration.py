"""The suite calibrated on itself: what it says of data whose truth is known, on klein-tiny.

Run with ``--calibrate`` only; this file is not collected by its name. Data without an effect must not be called
supported, and their p-values must be uniform; of a concept planted in the weights the suite must say that the model
represents it; a change of the template, a confound and an untrained model must be stopped by the rung that is there to
stop them; and the interval of the amplification must cover 1 where no network is trained.
"""

import pytest

from fixtures.calibration import ROWS


@pytest.mark.parametrize("name", ROWS)
def test_calibration(name, calibration):
    row = next(row for row in calibration["rows"] if row["name"] == name)
    assert row["ok"], row
