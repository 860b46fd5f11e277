"""What the recipes of workflow_recipes.py are made of: nodes, groups, notes, and the parts that many workflows share."""

from __future__ import annotations

from dataclasses import dataclass, field

HUB = "https://huggingface.co/"
# Behind every file's name: ComfyUI shows it as the template's title, and searches it alone.
SUFFIX = " (RIFE frame interpolation)"
BLUE, GREEN, GOLD, GREY = "#3f789e", "#8AA88A", "#b58b2a", "#8888AA"


# What App mode, which hides the graph, shows: these and the nodes of this pack with what a recipe sets on them, and media
# of these. Texts it shows nowhere.
ASKED = ("LoadVideo", "LoadImage", "CLIPTextEncode")
RESULTS = ("SaveVideo", "SaveImage", "PreviewImage", "ImageCompare")


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

    def in_app_mode(self) -> dict:
        """What App mode asks, as [node, widget], and the nodes whose results it shows."""
        asked = [node for node in self.nodes if node.type in ASKED or node.type.startswith("RIFE")]
        widgets = [
            [node.id, name]
            for node in asked
            for name, value in node.inputs.items()
            if not isinstance(value, Output)
        ]
        return {"inputs": widgets, "outputs": [node.id for node in self.nodes if node.type in RESULTS]}

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


def picture_of_the_job(w: Workflow, title: str, images: Output, prefix: str) -> Node:
    """A result that is saved: of what is only shown, the queue takes any for the job's picture, texts too."""
    return w.add("SaveImage", title, images=images, filename_prefix=prefix)


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
    "The bundled checkpoint works offline. For large motion choose **4.6 (download)** in "
    "*Load RIFE Checkpoint*; it is fetched once, into `models/frame_interpolation`."
)


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
