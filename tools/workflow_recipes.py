"""The recipes of example_workflows/*.json: nodes, widgets and links; tools/workflows.py writes them.

Sizes, slots and the layout (groups from left to right, nodes from top to bottom) are the front end's. Links may go backward
only. tests/test_workflows.py checks what comes out.
"""

from __future__ import annotations

from dataclasses import dataclass, field

HUB = "https://huggingface.co/"
# Behind every file's name: ComfyUI shows it as the template's title, and searches it alone.
SUFFIX = " (RIFE frame interpolation)"
BLUE, GREEN, GOLD, GREY = "#3f789e", "#8AA88A", "#b58b2a", "#8888AA"


@dataclass(frozen=True)
class Output:
    """What a link starts from."""

    node: int
    name: str


@dataclass
class Node:
    """One node of a recipe; `node["images"]` is its output of that name."""

    id: int
    type: str
    group: int
    column: int
    title: str | None
    inputs: dict
    models: list[dict]
    size: tuple[int, int] | None = None
    colors: tuple[str, str] | None = None

    def __getitem__(self, output: str) -> Output:
        return Output(self.id, output)


@dataclass
class Workflow:
    """Nodes in groups. `column` starts a new stack of nodes inside the current group."""

    name: str
    nodes: list[Node] = field(default_factory=list)
    groups: list[dict] = field(default_factory=list)
    _column: int = -1

    @property
    def file(self) -> str:
        """The name of its files, without what they end in."""
        return self.name + SUFFIX

    def group(self, title: str, color: str = BLUE) -> None:
        self.groups.append({"title": title, "color": color})
        self.column()

    def column(self) -> None:
        self._column += 1

    def add(self, type_: str, title: str | None = None, models=(), **inputs) -> Node:
        """A node; inputs are widget values or another node's outputs. `a__b` is the dynamic input a.b."""
        inputs = {name.replace("__", "."): value for name, value in inputs.items()}
        node = Node(
            len(self.nodes) + 1, type_, len(self.groups) - 1, self._column, title, inputs, list(models)
        )
        self.nodes.append(node)
        return node

    def note(self, title: str, text: str) -> None:
        """A note beside what it explains, as high as its text."""
        # Of the new kind of nodes, whose letters are larger.
        height = 110 + sum(16 * (1 + len(paragraph) // 72) + 2 for paragraph in text.split("\n"))
        note = self.add("MarkdownNote", title)
        note.inputs, note.size, note.colors = {"": text}, (420, height), ("#432", "#653")

    def prompt(self, title: str, clip: Output, text: str, good: bool = True) -> Node:
        """A text prompt, in core's colours."""
        node = self.add("CLIPTextEncode", title, clip=clip, text=text)
        node.size, node.colors = (420, 180), (("#232", "#353") if good else ("#322", "#533"))
        return node


def model(folder: str, path: str) -> dict:
    """Metadata of a file on huggingface.co that the front end offers to download."""
    return {"name": path.rsplit("/", 1)[1], "url": HUB + path, "directory": folder}


# ---------------------------------------------------------------------------------------------------------- parts


def choose_video(w: Workflow, group: str, title: str = "Choose a video") -> Node:
    """A user's video."""
    w.group(group, BLUE)
    video = w.add("LoadVideo", title, file="clip.mp4")
    video.size = (300, 320)
    return video


def load_video(w: Workflow, title: str = "Choose a video") -> Node:
    """A user's video, taken apart."""
    video = choose_video(w, "1. The clip", title)
    return w.add("GetVideoComponents", video=video["VIDEO"])


def interpolate(w: Workflow, images: Output, title: str, **inputs) -> Node:
    """RIFE, with its checkpoint."""
    w.group("2. RIFE", GREEN)
    loader = w.add("RIFECheckpointLoader", checkpoint="rife_comfy (bundled)")
    return w.add("RIFEInterpolate", title, interp_model=loader["interp_model"], images=images, **inputs)


def made(w: Workflow, run: Node) -> None:
    """What a node says of its work, where it stays when the run is over."""
    w.add("PreviewAny", "What was made", source=run["report"]).size = (420, 160)


def save(
    w: Workflow, run: Node, prefix: str, audio: Output | None = None, fps: Output | float | None = None
) -> None:
    """A video file of what RIFE made."""
    w.group("3. The result", GOLD)
    sound = {"audio": audio} if audio else {}
    video = w.add("CreateVideo", images=run["images"], fps=run["fps"] if fps is None else fps, **sound)
    saved = w.add("SaveVideo", video=video["VIDEO"], filename_prefix=f"video/{prefix}")
    saved.size = (420, 420)
    made(w, run)


CHECKPOINTS = (
    "The bundled checkpoint works offline. For large motion choose **4.26 (download)** in "
    "*Load RIFE Checkpoint*; it is fetched once, into `models/frame_interpolation`."
)


# -------------------------------------------------------------------------------------------------------- recipes


def twice() -> Workflow:
    w = Workflow("Interpolate a video 2x")
    clip = load_video(w)
    w.note(
        "Twice the frame rate",
        "## Twice the frame rate\n\n1. Choose a video.\n2. **multiplier** says how many times the frame rate: 2, 3, 4 "
        f"...\n3. Run.\n\nThe sound goes along; N frames become (N-1) x multiplier + 1. {CHECKPOINTS}\n\n"
        "Help of a node: select it, then *Node Info*, the *i* above it.",
    )
    run = interpolate(w, clip["images"], "How many times the frame rate?", fps=clip["fps"], multiplier=2)
    save(w, run, "RIFE_2x", clip["audio"])
    return w


def streamed() -> Workflow:
    w = Workflow("Long video 2x")
    video = choose_video(w, "1. The video")
    w.note(
        "Videos of any length",
        "## Videos of any length\n\nThe video goes from file to file and is never held in memory: an hour takes no more "
        "of it than a minute. Sound, subtitles, chapters, colours and more than 8 bits are kept.\n\n1. Choose a video."
        "\n2. **multiplier**, or **timing** for any other frame rate.\n3. Run.\n\nWhile *Save Video*'s format and codec "
        f"are *auto*, nothing is encoded twice. {CHECKPOINTS}",
    )
    w.group("2. RIFE", GREEN)
    loader = w.add("RIFECheckpointLoader", checkpoint="rife_comfy (bundled)")
    run = w.add(
        "RIFEInterpolateVideo", "How many times the frame rate?", interp_model=loader["interp_model"],
        video=video["VIDEO"], multiplier=2,
    )  # fmt: skip
    w.group("3. The result", GOLD)
    saved = w.add("SaveVideo", video=run["video"], filename_prefix="video/RIFE_long_2x")
    saved.size = (420, 420)
    made(w, run)
    return w


def to_60() -> Workflow:
    w = Workflow("24 to 60 fps")
    clip = load_video(w)
    w.note(
        "Any frame rate",
        "## Any frame rate, exactly\n\n**timing** *frame rate* and **target_fps** say what comes out; the clip's own "
        "rate comes from *Get Video Components*. 23.976, 29.97 and 59.94 mean n x 1000/1001. Frame k shows the time k / "
        "target_fps, over hours, so the sound stays in place; **keep_duration** holds the last frame for as long as "
        f"the clip shows it.\n\n{CHECKPOINTS}",
    )
    run = interpolate(
        w, clip["images"], "Which frame rate?", fps=clip["fps"], timing="frame rate", timing__target_fps=60.0,
        keep_duration=True,
    )  # fmt: skip
    save(w, run, "RIFE_60fps", clip["audio"])
    return w


def looped() -> Workflow:
    w = Workflow("Perfect loop")
    clip = load_video(w)
    w.note(
        "A loop without a jump",
        "## A loop without a jump\n\nWith **loop** the last frame leads back to the first: new frames are made "
        "between the two, N frames become N x multiplier, and the file can be repeated for ever.\n\nThe first and the "
        "last frame must show nearly the same, one step of the motion apart, as a clip that was generated for looping "
        "does. Where the last frame *is* the first, leave it out (*ImageFromBatch*). **cuts** is off, so that the step "
        f"back is not taken for a cut.\n\n{CHECKPOINTS}",
    )
    run = interpolate(w, clip["images"], "Loop", fps=clip["fps"], multiplier=2, loop=True, cuts="off")
    save(w, run, "RIFE_loop")
    return w


def slowed() -> Workflow:
    w = Workflow("Slow motion with a retime curve")
    clip = load_video(w)
    w.note(
        "Ramps, freezes, reverse",
        "## Ramps, freezes, reverse\n\n**curve** is a list of points *result second : clip second*, joined by straight "
        "lines:\n\n- `0:0, 0.25:0.25, 2:0.5` plays a quarter of a second as it was, then the next quarter seven times "
        "slower\n- `0:0, 1:1, 2:1` freezes at 1 s\n- `0:1, 1:0` runs backward\n\n**target_fps** 0 keeps the clip's "
        "rate. For the same slow motion from start to end choose **timing** *frame rate* with **speed** 0.25 and "
        f"**target_fps** at the clip's own rate. The result has no sound.\n\n{CHECKPOINTS}",
    )
    run = interpolate(
        w, clip["images"], "When is what shown?", fps=clip["fps"], timing="retime curve",
        timing__curve="0:0, 0.25:0.25, 2:0.5",
    )  # fmt: skip
    save(w, run, "RIFE_slow")
    return w


def between_two() -> Workflow:
    w = Workflow("Two images into a clip")
    w.group("1. Two images")
    first = w.add("LoadImage", "First image", image="first.png")
    last = w.add("LoadImage", "Last image", image="last.png")
    first.size = last.size = (300, 320)
    pair = w.add("BatchImagesNode", images__image0=first["IMAGE"], images__image1=last["IMAGE"])
    w.column()
    w.note(
        "From one image to the other",
        "## From one image to the other\n\n**multiplier** is the number of steps: 24 makes 25 frames, one second at "
        "24 fps. The images should show the same scene moments apart: RIFE moves what it finds in both, it does not "
        "invent. *Batch Images* brings the last image to the size of the first.\n\n**cuts** is off, or images "
        "that differ too much would be held instead. For a single frame between two images take *RIFE Inbetween*."
        f"\n\n{CHECKPOINTS}",
    )
    run = interpolate(
        w, pair["IMAGE"], "How many steps?", multiplier=24, fps=1.0, cuts="off", repeated_frames="off"
    )
    save(w, run, "RIFE_two_images", fps=24.0)
    return w


def on_twos() -> Workflow:
    w = Workflow("Anime on twos")
    clip = load_video(w)
    w.note(
        "Drawings that are shown twice",
        "## Drawings that are shown twice\n\nAnimation often shows each drawing for two or three frames. New frames "
        "between two equal ones change nothing, and the motion still jumps from drawing to drawing. "
        "**repeated_frames** *retime* moves from drawing to drawing instead, evenly, whatever the number of "
        "repeats; the clip keeps its length and its sound.\n\nWhere the rhythm of the drawings is meant to stay, leave "
        f"it on *hold*. Cuts are found and held.\n\n{CHECKPOINTS}",
    )
    run = interpolate(
        w, clip["images"], "From drawing to drawing", fps=clip["fps"], multiplier=2, keep_duration=True,
        repeated_frames="retime",
    )  # fmt: skip
    save(w, run, "RIFE_anime", clip["audio"])
    return w


KITE = (
    "A red kite climbs over a windy beach at sunset, waves rolling in, grass bending in the wind, slow camera pan, "
    "detailed, cinematic light."
)
T5 = model("text_encoders", "comfyanonymous/flux_text_encoders/resolve/main/t5xxl_fp16.safetensors")
COG_VAE = model("vae", "Comfy-Org/void-model/resolve/main/vae/cogvideox_vae.safetensors")


def cog_models(w: Workflow, file: str, kind: str) -> tuple[Node, Node, Node]:
    """CogVideoX-5b's three parts, and what is to be known of them."""
    w.group("1. Models")
    network = w.add("UNETLoader", unet_name=file)
    text = w.add("CLIPLoader", models=[T5], clip_name=T5["name"], type="cogvideox")
    vae = w.add("VAELoader", models=[COG_VAE], vae_name=COG_VAE["name"])
    w.note(
        "Models",
        f"## CogVideoX-5b {kind}, with ComfyUI's own nodes (0.21 and later)\n\n**diffusion_models**: a CogVideoX-5b "
        f"{kind} file with the key names that ComfyUI's own CogVideoX expects (`blocks.0.norm1.linear.weight`). Files "
        "in the spelling of diffusers (`transformer_blocks.0...`) are not recognised by *Load Diffusion Model*. Choose "
        f"yours there; no download is offered for it here.\n\n**text_encoders**: [{T5['name']}]({T5['url']})\n\n**vae**: "
        f"[{COG_VAE['name']}]({COG_VAE['url']})\n\nThe sampler is ComfyUI's *VOID Sampler*, which is the DDIM that "
        "CogVideoX was trained with; *KSampler* scales the noise in another way.",
    )
    return network, text, vae


def cog_sampled(w: Workflow, network: Node, vae: Node, positive: Output, negative: Output) -> Node:
    """49 frames of CogVideoX-5b, decoded."""
    w.column()
    latent = w.add(
        "EmptyHunyuanLatentVideo", "720x480, 49 frames (6 s at 8 fps)", width=720, height=480, length=49
    )
    noise = w.add("RandomNoise", noise_seed=42)
    guider = w.add("CFGGuider", model=network["MODEL"], positive=positive, negative=negative, cfg=6.0)
    sampler = w.add("VOIDSampler", "DDIM for CogVideoX (VOID Sampler)")
    sigmas = w.add("BasicScheduler", model=network["MODEL"], scheduler="simple", steps=50)
    w.column()
    sampled = w.add(
        "SamplerCustomAdvanced", noise=noise["NOISE"], guider=guider["GUIDER"], sampler=sampler["SAMPLER"],
        sigmas=sigmas["SIGMAS"], latent_image=latent["LATENT"],
    )  # fmt: skip
    return w.add("VAEDecode", samples=sampled["output"], vae=vae["VAE"])


def cog_interpolated(w: Workflow, frames: Node, prefix: str) -> None:
    """8 to 16 fps, and a file of it."""
    w.group("3. RIFE", GREEN)
    loader = w.add("RIFECheckpointLoader", checkpoint="rife_comfy (bundled)")
    w.note(
        "What RIFE does here",
        "## From 8 to 16 or 24 frames per second\n\nCogVideoX-5b makes 49 frames for 8 fps, which stutters. *RIFE "
        "Interpolate* puts a new frame between each two: 97 frames at 16 fps, the same 6 seconds. Set **multiplier** to "
        "3 for 145 frames at 24 fps.\n\n**fps** is the rate of the frames that come in: 8 for CogVideoX-5b, 16 for "
        f"CogVideoX1.5-5B. The rate that goes out is connected to *Create Video*.\n\n{CHECKPOINTS}",
    )
    run = w.add(
        "RIFEInterpolate", "49 frames at 8 fps -> 97 at 16 fps", interp_model=loader["interp_model"],
        images=frames["IMAGE"], multiplier=2, fps=8.0,
    )  # fmt: skip
    w.group("4. The result", GOLD)
    video = w.add("CreateVideo", images=run["images"], fps=run["fps"])
    w.add("SaveVideo", video=video["VIDEO"], filename_prefix=f"video/{prefix}").size = (420, 420)
    made(w, run)


def cog_from_text() -> Workflow:
    w = Workflow("CogVideoX 49 frames to 16 fps")
    network, text, vae = cog_models(w, "cogvideox_5b_t2v.safetensors", "text to video")
    w.group("2. CogVideoX", GREY)
    good = w.prompt("Prompt", text["CLIP"], KITE)
    bad = w.prompt("Negative prompt", text["CLIP"], "", good=False)
    frames = cog_sampled(w, network, vae, good["CONDITIONING"], bad["CONDITIONING"])
    cog_interpolated(w, frames, "CogVideoX_16fps")
    return w


def cog_from_image() -> Workflow:
    w = Workflow("CogVideoX image to video to 16 fps")
    network, text, vae = cog_models(w, "cogvideox_5b_i2v.safetensors", "image to video")
    w.group("2. CogVideoX", GREY)
    image = w.add("LoadImage", "The first frame", image="first.png")
    image.size = (300, 320)
    fitted = w.add(
        "ImageScale", "720x480, as the model wants it", image=image["IMAGE"], upscale_method="lanczos", width=720,
        height=480, crop="center",
    )  # fmt: skip
    w.column()
    good = w.prompt("Prompt", text["CLIP"], KITE)
    bad = w.prompt("Negative prompt", text["CLIP"], "", good=False)
    start = w.add(
        "InstructPixToPixConditioning", "Begins with the image", positive=good["CONDITIONING"],
        negative=bad["CONDITIONING"], vae=vae["VAE"], pixels=fitted["IMAGE"],
    )  # fmt: skip
    frames = cog_sampled(w, network, vae, start["positive"], start["negative"])
    cog_interpolated(w, frames, "CogVideoX_from_image_16fps")
    return w


WAN = "Comfy-Org/Wan_2.1_ComfyUI_repackaged/resolve/main/split_files/"
WAN_NET = model("diffusion_models", WAN + "diffusion_models/wan2.1_t2v_1.3B_fp16.safetensors")
WAN_TEXT = model("text_encoders", WAN + "text_encoders/umt5_xxl_fp8_e4m3fn_scaled.safetensors")
WAN_VAE = model("vae", WAN + "vae/wan_2.1_vae.safetensors")


def wan() -> Workflow:
    w = Workflow("Wan 81 frames to 24 or 30 fps")
    w.group("1. Models")
    network = w.add("UNETLoader", models=[WAN_NET], unet_name=WAN_NET["name"])
    text = w.add("CLIPLoader", models=[WAN_TEXT], clip_name=WAN_TEXT["name"], type="wan")
    vae = w.add("VAELoader", models=[WAN_VAE], vae_name=WAN_VAE["name"])
    links = "".join(
        f"\n\n**{m['directory']}**: [{m['name']}]({m['url']})" for m in (WAN_NET, WAN_TEXT, WAN_VAE)
    )
    w.note("Models", f"## Wan 2.1 text to video, 1.3B{links}\n\nAny other Wan works the same way.")
    w.group("2. Wan", GREY)
    good = w.prompt("Prompt", text["CLIP"], KITE)
    bad = w.prompt(
        "Negative prompt", text["CLIP"], "static, blurry, overexposed, text, watermark", good=False
    )
    latent = w.add(
        "EmptyHunyuanLatentVideo", "832x480, 81 frames (5 s at 16 fps)", width=832, height=480, length=81
    )
    w.column()
    shifted = w.add("ModelSamplingSD3", model=network["MODEL"], shift=8.0)
    sampled = w.add(
        "KSampler", model=shifted["MODEL"], positive=good["CONDITIONING"], negative=bad["CONDITIONING"],
        latent_image=latent["LATENT"], seed=42, steps=30, cfg=6.0, sampler_name="uni_pc", scheduler="simple",
    )  # fmt: skip
    frames = w.add("VAEDecode", samples=sampled["LATENT"], vae=vae["VAE"])
    w.group("3. RIFE", GREEN)
    loader = w.add("RIFECheckpointLoader", checkpoint="rife_comfy (bundled)")
    w.note(
        "What RIFE does here",
        "## From 16 to 24 or 30 frames per second\n\nWan 2.1 makes 81 frames for 16 fps. **timing** *frame rate* makes "
        "any rate of them: 121 frames at **target_fps** 24, 151 at 30, the same 5 seconds. Frames of Wan that fall on "
        f"such a time are in the result bit for bit.\n\n{CHECKPOINTS}",
    )
    run = w.add(
        "RIFEInterpolate", "81 frames at 16 fps -> 24 fps", interp_model=loader["interp_model"],
        images=frames["IMAGE"], fps=16.0, timing="frame rate", timing__target_fps=24.0,
    )  # fmt: skip
    w.group("4. The result", GOLD)
    video = w.add("CreateVideo", images=run["images"], fps=run["fps"])
    w.add("SaveVideo", video=video["VIDEO"], filename_prefix="video/Wan_24fps").size = (420, 420)
    made(w, run)
    return w


def tuned() -> Workflow:
    w = Workflow("Fine-tune on my clip and compare")
    video = choose_video(w, "1. What to learn from")
    w.note(
        "Learn my clip",
        "## A model for your clips\n\n*RIFE Train* learns to make the frames of your clip from their neighbours. The end "
        "of each shot is held out; what is better there is kept, and if nothing is, the node says so. Some hundred steps "
        "take minutes on a GPU.\n\n**Cancel** ends the training early and goes on with the best so far.\n\nStart from "
        "**4.26 (download)** for large motion. The saved file appears in *Load RIFE Checkpoint*.",
    )
    w.group("2. Training", GREEN)
    loader = w.add("RIFECheckpointLoader", "Start from", checkpoint="rife_comfy (bundled)")
    run = w.add("RIFETrain", interp_model=loader["interp_model"], video=video["VIDEO"], steps=300)
    w.group("3. Keep it", GOLD)
    kept = w.add("RIFECheckpointSave", interp_model=run["interp_model"])
    w.group("4. Look at it", GREY)
    w.add("PreviewImage", "Loss and held-out PSNR", images=run["plot"]).size = (420, 260)
    w.column()
    for title, output in (("Before", "before"), ("After", "after"), ("As it really is", "ground_truth")):
        w.add("PreviewImage", title, images=run[output]).size = (420, 300)
    # Behind the pictures: the first that a job gives is its picture in the queue.
    w.column()
    w.add("PreviewAny", "Saved as", source=kept["checkpoint"]).size = (420, 100)
    w.add("PreviewAny", "PSNR and SSIM before and after", source=run["report"]).size = (420, 260)
    return w


def scored() -> Workflow:
    w = Workflow("Score two checkpoints")
    clip = load_video(w)
    w.note(
        "Which one is better here?",
        "## Which checkpoint is better on this clip?\n\nEvery second frame is held out, made from its neighbours by both "
        "checkpoints and compared with what it was; frame averaging is scored beside them. Higher PSNR (dB) and SSIM are "
        "better; half a dB is visible side by side.\n\n**stride** 2 makes the motion larger. **4.25 (download)** is "
        "fetched once; choose any two.",
    )
    w.group("2. The score", GREEN)
    first = w.add("RIFECheckpointLoader", "First", checkpoint="rife_comfy (bundled)")
    second = w.add("RIFECheckpointLoader", "Second", checkpoint="4.25 (download)")
    run = w.add(
        "RIFEScore", images=clip["images"], interp_model=first["interp_model"],
        second_model=second["interp_model"],
    )  # fmt: skip
    w.group("3. The result", GOLD)
    w.add("PreviewAny", "The figures", source=run["report"]).size = (420, 320)
    w.column()
    w.add("PreviewImage", "PSNR of each frame", images=run["chart"]).size = (420, 280)
    w.add("PreviewImage", "Where the errors are", images=run["heat_map"]).size = (420, 320)
    return w


def joined() -> Workflow:
    w = Workflow("Join clips")
    w.group("1. Clips that follow each other")
    first = w.add("LoadVideo", "The first clip", file="first.mp4")
    second = w.add("LoadVideo", "The next one", file="second.mp4")
    first.size = second.size = (300, 320)
    w.column()
    w.note(
        "One film of several clips",
        "## One film of several clips\n\n1. Choose clips in order; another socket appears with each.\n2. Run.\n\nFrames "
        "that two clips have in common are found and morphed into each other along the motion, a frame that is there "
        "twice is dropped, a small gap is bridged, colours are matched and go back to their own over **fade** frames, "
        "sound is faded over. *What was found* says what was there at each seam.\n\nThe clips must have one size and "
        f"frame rate. Images can be joined the same way: connect *VAE Decode* instead of a video.\n\n{CHECKPOINTS}",
    )
    w.group("2. RIFE", GREEN)
    loader = w.add("RIFECheckpointLoader", checkpoint="rife_comfy (bundled)")
    run = w.add(
        "RIFEJoinClips", "Join", interp_model=loader["interp_model"], clips__clip0=first["VIDEO"],
        clips__clip1=second["VIDEO"],
    )  # fmt: skip
    w.group("3. The result", GOLD)
    w.add("SaveVideo", video=run["video"], filename_prefix="video/RIFE_joined").size = (420, 420)
    w.add("PreviewAny", "What was found", source=run["report"]).size = (420, 260)
    return w


def to_file() -> Workflow:
    w = Workflow("Generated images to a file as a stream")
    w.group("1. The images of a video model")
    first = w.add("LoadImage", "Stands for what VAE Decode gives", image="first.png")
    last = w.add("LoadImage", image="last.png")
    first.size = last.size = (300, 320)
    pair = w.add("BatchImagesNode", images__image0=first["IMAGE"], images__image1=last["IMAGE"])
    w.column()
    w.note(
        "Without holding the result",
        "## Images in, a file out\n\nThe images of a video model fit into memory; eight times as many may not. *Create "
        "Video* and *RIFE Interpolate Video* take them, and every new frame goes straight into the file.\n\nConnect *VAE "
        f"Decode* in place of the two images, and set **fps** to what your model makes.\n\n{CHECKPOINTS}",
    )
    video = w.add("CreateVideo", images=pair["IMAGE"], fps=16.0)
    w.group("2. RIFE", GREEN)
    loader = w.add("RIFECheckpointLoader", checkpoint="rife_comfy (bundled)")
    run = w.add(
        "RIFEInterpolateVideo", "How many times the frame rate?", interp_model=loader["interp_model"],
        video=video["VIDEO"], multiplier=8, cuts="off", repeated_frames="off",
    )  # fmt: skip
    w.group("3. The result", GOLD)
    w.add("SaveVideo", video=run["video"], filename_prefix="video/RIFE_stream").size = (420, 420)
    made(w, run)
    return w


def compared() -> Workflow:
    w = Workflow("Compare with the true frame")
    w.group("1. Two images")
    first = w.add("LoadImage", "First image", image="first.png")
    last = w.add("LoadImage", "Last image", image="last.png")
    first.size = last.size = (300, 320)
    w.column()
    w.note(
        "Before and after",
        "## Before and after\n\n*Compare Images* shows two pictures one over the other: move the pointer across. Left the "
        "first image, right what RIFE makes of both at **timestep**. Put a frame that you held out in the place of the "
        f"first image to see how close RIFE comes to it.\n\n{CHECKPOINTS}",
    )
    w.group("2. RIFE", GREEN)
    loader = w.add("RIFECheckpointLoader", checkpoint="rife_comfy (bundled)")
    run = w.add(
        "RIFEInbetween", "The image at a time", interp_model=loader["interp_model"], image0=first["IMAGE"],
        image1=last["IMAGE"], timestep=0.5,
    )  # fmt: skip
    w.group("3. Look at it", GOLD)
    w.add("ImageCompare", "Before and after", image_a=first["IMAGE"], image_b=run["images"]).size = (520, 460)
    return w


RECIPES = (
    twice,
    streamed,
    to_60,
    cog_from_text,
    cog_from_image,
    wan,
    looped,
    slowed,
    between_two,
    on_twos,
    tuned,
    scored,
    joined,
    to_file,
    compared,
)
