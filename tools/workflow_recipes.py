"""The recipes of example_workflows/*.json: nodes, widgets and links; tools/workflows.py writes them.

Sizes, slots and the layout (groups from left to right, nodes from top to bottom) are the front end's. Links may go backward
only. tests/test_workflows.py checks what comes out.
"""

from __future__ import annotations

from recipe_parts import (
    CHECKPOINTS,
    GOLD,
    GREEN,
    GREY,
    KITE,
    Workflow,
    choose_video,
    cog_interpolated,
    cog_models,
    cog_sampled,
    interpolate,
    load_video,
    made,
    model,
    picture_of_the_job,
    save,
)


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
        "does. Where the last frame *is* the first, as after generating from first to last frame, **loop_twin** *drop* leaves "
        "it out, so that nothing freezes. **loop_drift** *auto* spreads a drift of colours from end to begin over the clip. "
        f"**cuts** is off, so that the step back is not taken for a cut.\n\n{CHECKPOINTS}",
    )
    run = interpolate(
        w,
        clip["images"],
        "Loop",
        fps=clip["fps"],
        multiplier=2,
        loop=True,
        cuts="off",
        loop_twin="drop",
        loop_drift="auto",
    )
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
        "**4.6 (download)** for large motion. The saved file appears in *Load RIFE Checkpoint*.",
    )
    w.group("2. Training", GREEN)
    loader = w.add("RIFECheckpointLoader", "Start from", checkpoint="rife_comfy (bundled)")
    run = w.add("RIFETrain", interp_model=loader["interp_model"], video=video["VIDEO"], steps=300)
    w.group("3. Keep it", GOLD)
    kept = w.add("RIFECheckpointSave", interp_model=run["interp_model"])
    w.group("4. Look at it", GREY)
    picture_of_the_job(w, "Loss and held-out PSNR", run["plot"], "RIFE_training").size = (420, 260)
    w.column()
    for title, output in (("Before", "before"), ("After", "after"), ("As it really is", "ground_truth")):
        w.add("PreviewImage", title, images=run[output]).size = (420, 300)
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
    picture_of_the_job(w, "PSNR of each frame", run["chart"], "RIFE_score").size = (420, 280)
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


def finished(name: str, title: str, text: str, what: str, prefix: str, **inputs) -> Workflow:
    """A video through RIFE Interpolate Video, with one of the things that finish a frame."""
    w = Workflow(name)
    video = choose_video(w, "1. The clip")
    w.column()
    w.note(title, f"## {title}\n\n{text}\n\n{CHECKPOINTS}")
    w.group("2. RIFE", GREEN)
    loader = w.add("RIFECheckpointLoader", checkpoint="rife_comfy (bundled)")
    run = w.add(
        "RIFEInterpolateVideo", what, interp_model=loader["interp_model"], video=video["VIDEO"], **inputs
    )
    w.group("3. The result", GOLD)
    w.add("SaveVideo", video=run["video"], filename_prefix=f"video/{prefix}").size = (420, 420)
    made(w, run)
    return w


def steady() -> Workflow:
    return finished(
        "Even sharpness", "Every frame as sharp as the next",
        "Given frames are a little sharper than made ones, which at twice the rate is a pulse that people see. With "
        "**steady** all frames are made, half a step later, and their finest detail is that of the given ones. Their number, "
        "their rate and the sound stay.",
        "No pulse of sharpness", "RIFE_steady", multiplier=2, steady=True,
    )  # fmt: skip


def blurred() -> Workflow:
    return finished(
        "Motion blur 60 to 24 fps", "60 to 24 fps, as if filmed so",
        "Leaving frames out makes 24 fps that stutter: each shows a sixtieth of a second. **shutter** 180 opens the shutter "
        "for half of the time to the next frame, as film cameras do, and averages the light of the frames made meanwhile. 360 "
        "is as soft as it can be, 0 is off. It works at any **target_fps**.",
        "180 degrees at 24 fps", "RIFE_motion_blur", timing="frame rate", timing__target_fps=24.0, shutter=180.0,
    )  # fmt: skip


def kept() -> Workflow:
    return finished(
        "Keep logo and subtitles", "What lies over the picture is not bent",
        "Logos, subtitles and displays stand still over motion, and are bent where it passes behind them. **overlays** *auto* "
        "finds what stands still to the pixel with motion around it, and takes it from the nearer given frame. To say it "
        "yourself, connect a mask to **keep** (*Load Image (as Mask)*, white where nothing is to be warped).",
        "Overlays are found and kept", "RIFE_kept", multiplier=2, overlays="auto",
    )  # fmt: skip


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
    w.column()
    picture_of_the_job(w, "The image that was made", run["images"], "RIFE_inbetween").size = (420, 360)
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
    steady,
    blurred,
    kept,
)
