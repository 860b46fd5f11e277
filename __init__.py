"""ComfyUI's door. Everything behind it is imported when ComfyUI asks, so that importing this folder does nothing.

The import stands inside the function because pytest imports this file too, as a module without a package.
"""

# Help pages: web/docs/<node id>/<language>.md. ComfyUI serves this folder under the name of ours.
WEB_DIRECTORY = "./web"


async def comfy_entrypoint():
    """The pack's extension; ComfyUI calls this once at start."""
    from .nodes import RIFEExtension

    return RIFEExtension()
