"""Files with odd times: every frame that ffmpeg decodes, in its order, at the right time, also from the middle on."""

from __future__ import annotations

import pytest
from odd_files import CASES, number

from rife.video.reader import Clip


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_every_frame_is_there_at_its_time(tmp_path, case, caplog):
    clip = Clip(case.make(tmp_path / "x"))
    assert "its end is missing" not in caplog.text
    assert [number(frame) for frame in clip.frames()] == list(case.frames)
    assert clip.rate == case.rate
    assert float(clip.clock.duration) == pytest.approx(float(case.seconds), rel=0.001, abs=0.002)
    middle = len(case.frames) // 2
    assert [number(frame) for frame in clip.frames(middle, middle + 3)] == list(
        case.frames[middle : middle + 3]
    )
