from rife.evaluation.scoring import Row
from rife.evaluation.tables import aligned, held_out_table, paired, protocol_table, worst_frames


def row(clip="a", task="2x", method="m", psnr=30.0, motion=2.0, name="0-2", time=0.5) -> Row:
    return Row(clip, task, "", name, time, method, motion, {"psnr": psnr})


def test_the_table_has_clips_their_mean_and_sizes_of_motion():
    rows = [
        row("a", psnr=20.0, method="average"),
        row("a", psnr=22.0),
        row("b", psnr=30.0, method="average", motion=9.0),
        row("b", psnr=31.0, motion=9.0),
    ]
    header, *lines = held_out_table(rows)
    assert header == ("set", "task", "method", "frames", "psnr", "gain_dB")
    assert [line for line in lines if line[2] == "m"] == [
        ("a", "2x", "m", "1", "22.00", "+2.00"),
        ("b", "2x", "m", "1", "31.00", "+1.00"),
        ("mean of clips", "2x", "m", "2", "26.50", "+1.50"),
        ("motion 1 to 4 px", "2x", "m", "1", "22.00", "+2.00"),
        ("motion 8 to 16 px", "2x", "m", "1", "31.00", "+1.00"),
    ]


def test_without_averaging_there_is_no_gain():
    assert protocol_table([row()], False)[1] == ("a", "", "m", "1", "30.00", "")


def test_frames_are_compared_one_by_one_and_the_worst_comes_first():
    rows = [row(psnr=20.0, method="n", name="0-2"), row(psnr=25.0, name="0-2"), row(psnr=20.0, method="n", name="2-4"),
            row(psnr=19.0, name="2-4")]  # fmt: skip
    assert [(gain, r.name) for gain, r in paired(rows, "m", "n")] == [(-1, "2-4"), (5, "0-2")]


def test_the_worst_frames_are_named():
    rows = [row(psnr=20.0, method="n"), row(psnr=19.0)]
    assert worst_frames(rows, "m", "n").splitlines() == [
        "m is below n on 1 of 1 frames; the worst:",
        "   -1.00 dB  a 2x, frames 0-2 at 0.5: 19.00 dB, motion 2.0 px",
    ]


def test_text_is_aligned_left_and_figures_right():
    table = [("set", "task", "method", "psnr"), ("a", "2x", "m", "9.5")]
    assert aligned(table) == "set  task  method  psnr\na    2x    m        9.5"
