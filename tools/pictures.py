"""Makes all pictures of README, docs, help pages and templates from clips, committed figures and the bundled checkpoint.

    python tools/pictures.py FOLDER      # with bbb-1080p60-2s.mp4, bbb-480p-30s.mp4, intel-*.mp4 and .mkv of NOTICE in it

Every picture is a result: what is marked green was made by RIFE. Takes some minutes, most of it the training that the
help of RIFE Train shows. Not made here: docs/pictures/best.jpg and worst.jpg, which benchmarks/score_held_out.py finds
(its command stands in docs/measuring.md), the graph in the help of the loader, a photograph by tools/workflows.py, and
docs/pictures/graph.jpg: the template "24 to 60 fps" after a run on rife/cli/demo_clip.mp4, front end 1.58.1, Nodes 2.0.
"""

from __future__ import annotations

import importlib
import sys
from fractions import Fraction
from pathlib import Path
from types import ModuleType

import numpy
import torch
from PIL import Image, ImageDraw, ImageFont

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "support"))

import checkout  # noqa: E402, F401  (makes this checkout's `rife` importable)
import plots
from recipe_parts import SUFFIX

import rife  # noqa: E402
from rife.evaluation.charts import flow_picture, heat_map  # noqa: E402
from rife.evaluation.metrics import psnr
from rife.timeline.clock import Clock  # noqa: E402
from rife.timeline.curve import Curve  # noqa: E402
from rife.timeline.plans import Plan, plan  # noqa: E402
from rife.training.datasets import RealFrames, shots, split, triplets
from rife.training.schedule import Settings
from rife.training.trainer import Trainer
from rife.video.job import read_frames  # noqa: E402

PICTURES, WORKFLOWS, HELP = (
    ROOT / "docs" / "pictures",
    ROOT / "example_workflows",
    ROOT / "web" / "docs" / "pictures",
)
GIVEN, MADE, INK = "white", "#4ade80", (16, 18, 22)


def frames_of(path: Path, first: int, count: int, stride: int = 1, size: tuple[int, int] = (480, 270)):
    """`count` frames (N,H,W,3) in 0..1 of a clip, every `stride`th from `first`, fitted to `size`."""
    found = []
    for i, frame in enumerate(read_frames(path, first + (count - 1) * stride + 1)):
        if i >= first and (i - first) % stride == 0:
            picture = Image.fromarray(frame)
            width, height = picture.size
            inner = min(width, height * size[0] / size[1]), min(height, width * size[1] / size[0])
            left, top = (width - inner[0]) / 2, (height - inner[1]) / 2
            box = (left, top, left + inner[0], top + inner[1])
            found.append(numpy.asarray(picture.resize(size, Image.LANCZOS, box)))
    return torch.from_numpy(numpy.stack(found)).float() / 255


def pictures(frames: torch.Tensor) -> list[Image.Image]:
    return [Image.fromarray((f * 255).round().clamp(0, 255).byte().numpy()) for f in frames]


def label(
    picture: Image.Image, text: str, colour: str = GIVEN, size: int = 18, at: tuple[int, int] = (8, 8)
) -> None:
    """Text on a dark plate."""
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(size)
    left, top, right, bottom = draw.textbbox(at, text, font=font)
    draw.rectangle((left - 5, top - 4, right + 5, bottom + 4), fill=INK)
    draw.text(at, text, fill=colour, font=font)


def animation(clip: Path, model) -> None:
    """As generated videos come, at 8 fps, and at 24 fps with two new frames between each two: every eighth frame of a
    film at 60 fps, which the bundled checkpoint never saw."""
    source = frames_of(clip, 24, 12, 8, (400, 224))
    smooth = pictures(rife.interpolate(model, source, 3))
    steps = pictures(source)
    shown = []
    for k, after in enumerate(smooth):
        both = Image.new("RGB", (804, 224), INK)
        both.paste(steps[k // 3], (0, 0))
        both.paste(after, (404, 0))
        label(both, "8 fps", at=(8, 196))
        label(both, "24 fps, RIFE", MADE, at=(412, 196))
        shown.append(both)
    PICTURES.mkdir(parents=True, exist_ok=True)
    shown[0].save(
        PICTURES / "before_after.webp", save_all=True, append_images=shown[1:], duration=[42, 42, 41] * 11 + [42],
        loop=0, quality=70, method=4,
    )  # fmt: skip


def strip(draw: ImageDraw.ImageDraw, clock: Clock, made: Plan, box: tuple[int, int, int, int]) -> None:
    """The clip's frames above, the result's below, at their times; a line joins the two that are one frame."""
    left, top, right, bottom = box
    last = max(float(made.time(len(made) - 1)), float(clock.at(clock.count - 1)), 1e-9)

    def x_at(time: Fraction) -> float:
        return left + (right - left) * float(time) / last

    for i in range(clock.count):
        x = x_at(clock.at(i))
        draw.ellipse((x - 8, top - 8, x + 8, top + 8), fill=GIVEN)
    for k, step in enumerate(made):
        x, new = x_at(made.time(k)), step.kind == "new"
        if not new:
            draw.line((x_at(clock.at(step.left)), top, x, bottom), fill="#667", width=2)
        draw.ellipse((x - 7, bottom - 7, x + 7, bottom + 7), fill=MADE if new else GIVEN)


def thumbnail(name: str, text: str, frames: torch.Tensor, fps: int, model, shown: int, **options) -> None:
    """A frame of the result over the timeline of clip and result."""
    clock = Clock(len(frames), fps)
    made = plan(clock, **options)
    result = rife.interpolate(model, frames, plan=made)
    card = Image.new("RGB", (640, 640), INK)
    card.paste(pictures(result[shown : shown + 1])[0].resize((640, 480), Image.LANCZOS))
    draw = ImageDraw.Draw(card)
    strip(draw, clock, made, (50, 530, 590, 600))
    new = made[shown].kind == "new"
    label(card, text, GIVEN, 34, (22, 18))
    if new:
        label(card, "made by RIFE", MADE, 22, (22, 436))
    card.save(WORKFLOWS / f"{name}{SUFFIX}.jpg", quality=82, optimize=True)


def thumbnails(folder: Path, model) -> None:
    """One for each workflow: its own arithmetic on a few frames."""
    size = (640, 480)
    bunny = frames_of(folder / "bbb-1080p60-2s.mp4", 60, 5, 4, size)
    story = frames_of(folder / "bbb-480p-30s.mp4", 300, 5, 1, size)
    street = frames_of(folder / "intel-car-detection.mp4", 60, 5, 1, size)
    people = frames_of(folder / "intel-one-by-one-person-detection.mp4", 80, 5, 2, size)
    apple = frames_of(folder / "bbb-480p-30s.mp4", 480, 5, 1, size)
    hands = frames_of(folder / "intel-asl-yes.mkv", 30, 5, 1, size)
    drawn = apple[[0, 0, 2, 2, 4]]
    ramp = Curve(
        [(Fraction(0), Fraction(0)), (Fraction(1, 24), Fraction(1, 24)), (Fraction(9, 24), Fraction(3, 24))],
        24,
    )
    thumbnail("Interpolate a video 2x", "2x", bunny, 15, model, 3, multiplier=2)
    thumbnail("Long video 2x", "long video 2x", street, 25, model, 3, multiplier=2)
    thumbnail("24 to 60 fps", "24 to 60 fps", story, 24, model, 3, rate=60)
    thumbnail("CogVideoX 49 frames to 16 fps", "8 to 16 fps", bunny, 8, model, 5, multiplier=2)
    thumbnail("CogVideoX image to video to 16 fps", "image to 16 fps", people, 8, model, 3, multiplier=2)
    thumbnail("Wan 81 frames to 24 or 30 fps", "16 to 24 fps", street, 16, model, 1, rate=24)
    thumbnail("Perfect loop", "loop", hands, 12, model, 1, multiplier=2, loop=True)
    thumbnail("Slow motion with a retime curve", "slow motion", people, 24, model, 4, times=ramp, rate=24)
    thumbnail("Two images into a clip", "2 images", bunny[::2][:2], 1, model, 4, multiplier=8)
    thumbnail(
        "Anime on twos", "on twos", drawn, 24, model, 2, multiplier=2, repeats={1, 3}, at_repeats="retime"
    )


def scoring(folder: Path, model) -> None:
    """A held-out frame and what averaging and RIFE make of it: help of RIFE Score, and a thumbnail."""
    given = frames_of(folder / "bbb-1080p60-2s.mp4", 60, 3, 4, (480, 270))
    blend = given[::2].mean(0)
    made = rife.interpolate(model, given[::2], 2)[1]
    errors = heat_map(torch.stack([(one - given[1]).abs().mean(-1) for one in (blend, made)]), 32 / 255)
    decibels = [psnr(one.movedim(-1, 0), given[1].movedim(-1, 0)) for one in (blend, made)]
    names = "true frame", "made by RIFE", f"averaging: {decibels[0]:.1f} dB", f"RIFE: {decibels[1]:.1f} dB"
    four, tiles = Image.new("RGB", (968, 548), INK), pictures(torch.stack((given[1], made, *errors)))
    for i, (tile, name) in enumerate(zip(tiles, names, strict=True)):
        at = (488 * (i % 2), 278 * (i // 2))
        four.paste(tile, at)
        label(four, name, MADE if i % 2 else GIVEN, 18, (at[0] + 8, at[1] + 8))
    four.save(HELP / "score.jpg", quality=85, optimize=True)
    card = Image.new("RGB", (640, 640), INK)
    for i in (2, 3):
        card.paste(tiles[i].resize((640, 360), Image.LANCZOS).crop((0, 20, 640, 336)), (0, 324 * (i - 2)))
        label(card, names[i], MADE if i == 3 else GIVEN, 34, (22, 324 * (i - 2) + (78 if i == 2 else 18)))
    label(card, "score", GIVEN, 34, (22, 18))
    card.save(WORKFLOWS / f"Score two checkpoints{SUFFIX}.jpg", quality=82, optimize=True)


def training(folder: Path, model) -> None:
    """What RIFE Train shows while it adapts the bundled checkpoint to a clip that it never saw."""
    clip = frames_of(folder / "intel-asl-walk.mkv", 0, 60, 1, (320, 180))
    learn, judge = split(shots(clip), 0.25)
    held_out = triplets(judge, 8)
    settings = Settings(steps=150, batch=4, learning_rate=1e-4, score_every=15)
    trainer = Trainer(model, RealFrames(learn, crop=96, any_time=True), settings, {"held out": held_out})
    losses, scores = [], []

    def watch(step) -> None:
        losses.append((step.number, step.losses["loss_l1"]))
        if step.scores:
            scores.append((step.number, step.scores["held out"].psnr))

    result = trainer.run(watch)
    img0, truth, img1 = (x[None].float() / 255 for x in held_out[0])
    before, now = (m.inference(img0, img1)[0].movedim(0, 2) for m in (model, result.model))
    scores.insert(0, (0, trainer.before["held out"].psnr))
    plot = node_module("plot")
    frames = {"before": before, "now": now, "truth": truth[0].movedim(0, 2)}
    seen = plot.beneath(plot.curves(losses, scores, (640, 400)), frames)
    seen.save(HELP / "train.jpg", quality=85, optimize=True)
    card = Image.new("RGB", (640, 640), "white")
    card.paste(seen.crop((0, 0, 640, 520)), (0, 80))
    label(card, "fine-tune", GIVEN, 34, (22, 18))
    card.save(WORKFLOWS / f"Fine-tune on my clip and compare{SUFFIX}.jpg", quality=82, optimize=True)


def node_module(name: str) -> ModuleType:
    """A module of nodes/ that needs no ComfyUI, without the others."""
    for package, path in (("pack", ROOT), ("pack.nodes", ROOT / "nodes")):
        sys.modules[package] = ModuleType(package)
        sys.modules[package].__path__ = [str(path)]
    return importlib.import_module(f"pack.nodes.{name}")


def help_pictures(folder: Path, model) -> None:
    """Those of web/docs."""
    timeline = Image.new("RGB", (640, 330), INK)
    draw = ImageDraw.Draw(timeline)
    clock, rows = (
        Clock(5, 24),
        (("2x", {"multiplier": 2}), ("24 to 60 fps", {"rate": 60}), ("loop", {"loop": True})),
    )
    for row, (text, options) in enumerate(rows):
        top = 30 + 105 * row
        draw.text((20, top + 16), text, fill=GIVEN, font=ImageFont.load_default(20))
        strip(draw, clock, plan(clock, **options), (180, top, 610, top + 56))
    timeline.save(HELP / "timeline.png", optimize=True)
    pair = frames_of(folder / "bbb-1080p60-2s.mp4", 60, 2, 8, (320, 180))
    three = Image.new("RGB", (976, 180), INK)
    for i, picture in enumerate(pictures(rife.interpolate(model, pair, 2))):
        three.paste(picture, (328 * i, 0))
    label(three, "made by RIFE", MADE, at=(336, 8))
    three.save(HELP / "inbetween.jpg", quality=82, optimize=True)
    triplet(folder)
    seams(folder, model)
    finishes(folder, model)
    parts_of_a_clip()


def triplet(folder: Path) -> None:
    """What RIFE Train Step learns from."""
    three = Image.new("RGB", (976, 180), INK)
    for i, picture in enumerate(pictures(frames_of(folder / "bbb-1080p60-2s.mp4", 60, 3, 4, (320, 180)))):
        three.paste(picture, (328 * i, 0))
        label(three, ("img0", "ground_truth", "img1")[i], at=(328 * i + 8, 8))
    three.save(HELP / "triplet.jpg", quality=82, optimize=True)


def seams(folder: Path, model) -> None:
    """What RIFE Join Clips makes of an overlap whose second clip was displaced, and two cards."""
    clip = frames_of(folder / "bbb-1080p60-2s.mp4", 60, 24, 2, (480, 270))
    first, second = clip[:16, :, :-16], clip[8:, :, 16:]
    faded = torch.lerp(first[8:], second[:8], torch.arange(1, 9).view(-1, 1, 1, 1) / 9)
    joined = rife.join(model, [first, second], overlap=8).frames
    both = Image.new("RGB", (936, 270), INK)
    for i, (frame, text) in enumerate(((faded[3], "cross-fade"), (joined[11], "RIFE Join Clips"))):
        both.paste(pictures(frame[None])[0], (472 * i, 0))
        label(both, text, MADE if i else GIVEN, at=(472 * i + 8, 8))
    both.save(HELP / "join.jpg", quality=85, optimize=True)
    two_rows("Join clips", [("cross-fade", faded[3]), ("RIFE Join Clips", joined[11])])
    between = rife.interpolate(model, clip[[4, 12]], 2)[1]
    two_rows("Compare with the true frame", [("true frame", clip[8]), ("made by RIFE", between)])


def two_rows(name: str, rows: list[tuple[str, torch.Tensor]]) -> None:
    """The card of a workflow: what there is without it over what there is with it."""
    card = Image.new("RGB", (640, 640), INK)
    for i, (text, frame) in enumerate(rows):
        picture = pictures(frame[None])[0].resize((640, 360), Image.LANCZOS)
        card.paste(picture.crop((0, 22, 640, 340)), (0, 322 * i))
        label(card, text, MADE if i else GIVEN, 34, (22, 322 * i + 18))
    card.save(WORKFLOWS / f"{name}{SUFFIX}.jpg", quality=82, optimize=True)


def finishes(folder: Path, model) -> None:
    """The cards of the templates that finish a frame: the light of some true frames, subtitles over moving ones, how
    much detail each frame has."""
    clip = frames_of(folder / "bbb-1080p60-2s.mp4", 60, 8, 1, (480, 270))
    blurred = clip[:6].pow(2.2).mean(0).pow(1 / 2.2)
    two_rows("Motion blur 60 to 24 fps", [("as filmed", clip[2]), ("motion blur", blurred)])
    bunny = frames_of(folder / "bbb-1080p60-2s.mp4", 60, 5, 4, (640, 480))
    thumbnail("Generated images to a file as a stream", "2 images", bunny[::2][:2], 1, model, 4, multiplier=8)
    titled = pictures(bunny)
    for picture in titled:
        label(picture, "Subtitles stay as they are", GIVEN, 26, (150, 380))
    frames = torch.from_numpy(numpy.stack([numpy.asarray(picture) for picture in titled])).float() / 255
    thumbnail("Keep logo and subtitles", "subtitles", frames, 15, model, 3, multiplier=2)
    even_sharpness(bunny, model)


def even_sharpness(clip: torch.Tensor, model) -> None:
    """A card: how much detail each frame has at twice the rate, as ever and steady."""
    card = Image.new("RGB", (640, 640), INK)
    card.paste(pictures(clip[1:2])[0].crop((0, 60, 640, 380)))
    draw, small = ImageDraw.Draw(card), clip[:, ::2, ::2]
    for row, (text, steady) in enumerate((("2x", False), ("2x, steady", True))):
        made = plan(Clock(len(clip), 15), multiplier=2, steady=steady)
        frames = rife.interpolate(model, small, plan=made).mean(-1)
        detail = [float((f[1:, 1:] - f[:-1, :-1]).square().mean()) for f in frames]
        for k, value in enumerate(detail):
            left, bottom = 40 + 63 * k, 470 + 155 * row
            height = 100 * value / max(detail)
            colour = MADE if made[k].kind == "new" else GIVEN
            draw.rectangle((left, bottom - height, left + 44, bottom), fill=colour)
        label(card, text, MADE if row else GIVEN, 22, (40, 336 + 155 * row))
    label(card, "even sharpness", GIVEN, 34, (22, 18))
    card.save(WORKFLOWS / f"Even sharpness{SUFFIX}.jpg", quality=82, optimize=True)


def parts_of_a_clip() -> None:
    """Chunks of a batch loop, and pairs that are skipped."""
    font, clock = ImageFont.load_default(18), Clock(9, 24)
    chunks = Image.new("RGB", (640, 150), INK)
    draw = ImageDraw.Draw(chunks)
    for i in range(3):
        left = 40 + 210 * i  # three frames each, 70 apart
        draw.rounded_rectangle((left - 18, 36, left + 158, 64), 8, outline="#667", width=2)
        draw.text((left - 14, 10), f"chunk {i + 1}", fill=GIVEN, font=font)
    strip(draw, clock, plan(clock, multiplier=2), (40, 50, 600, 120))
    chunks.save(HELP / "chunks.png", optimize=True)
    skipped = Image.new("RGB", (640, 120), INK)
    times = [Fraction(n, 2) for n in range(9) if n not in (3, 5)]
    clock = Clock(5, 1)
    draw = ImageDraw.Draw(skipped)
    draw.text((180, 8), "pairs 1 and 2 are skipped", fill=GIVEN, font=font)
    strip(draw, clock, plan(clock, times=times), (40, 50, 600, 96))
    skipped.save(HELP / "skipped.png", optimize=True)


def flow_example(folder: Path, model) -> None:
    """A pair blended, and its motion in colours."""
    pair = frames_of(folder / "bbb-1080p60-2s.mp4", 60, 2, 8, (480, 270))
    motion = model.motion(*(frame.movedim(-1, 0)[None] for frame in pair))
    seen = pictures(torch.stack((pair.mean(0), flow_picture(motion.flow0.cpu())[0])))
    both = Image.new("RGB", (968, 270), INK)
    for i, picture in enumerate(seen):
        both.paste(picture, (488 * i, 0))
    both.save(HELP / "flow.jpg", quality=85, optimize=True)


def emblem(size: tuple[int, int], radius: int, caption: str = "") -> Image.Image:
    """Three frames given, two made between them, on their way."""
    picture = Image.new("RGB", size, INK)
    draw, (width, height) = ImageDraw.Draw(picture), size
    middle = height * (0.36 if caption else 0.5)
    for i in range(5):
        x, y = width / 2 + (i - 2) * radius * 1.9, middle + (i - 2) ** 2 * radius * 0.35 - radius * 0.5
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=MADE if i % 2 else GIVEN)
    if caption:
        font = ImageFont.load_default(int(height * 0.16))
        draw.text((width / 2, height * 0.78), caption, fill=GIVEN, font=font, anchor="mm")
    return picture


def registry_pictures() -> None:
    """Icon (square) and banner (21:9) of the Comfy registry."""
    emblem((400, 400), 40).save(PICTURES / "icon.png", optimize=True)
    emblem((1260, 540), 60, "ComfyUI-RIFE").save(PICTURES / "banner.png", optimize=True)


if __name__ == "__main__":
    CLIPS, MODEL = Path(sys.argv[1]), rife.load_model()
    animation(CLIPS / "bbb-1080p60-2s.mp4", MODEL)
    thumbnails(CLIPS, MODEL)
    help_pictures(CLIPS, MODEL)
    flow_example(CLIPS, MODEL)
    scoring(CLIPS, MODEL)
    training(CLIPS, MODEL)
    registry_pictures()
    plots.main()
