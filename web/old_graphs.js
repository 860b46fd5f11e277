// A graph that was saved before an input came has no value for it, and the front end gives it what a new node would have.
// For `loop_twin` that would leave frames out that the graph made before; there it means what it meant then.
import { app } from "../../scripts/app.js"

const BEFORE = { loop_twin: "keep" }
const NODES = ["RIFEInterpolate", "RIFEInterpolateVideo"]

app.registerExtension({
  name: "RIFE.OldGraphs",
  beforeRegisterNodeDef(nodeType, nodeData) {
    if (!NODES.includes(nodeData.name)) return
    const configured = nodeType.prototype.onConfigure
    nodeType.prototype.onConfigure = function (saved) {
      configured?.apply(this, arguments)
      const widgets = (this.widgets ?? []).filter((widget) => widget.serialize !== false)
      for (const [name, value] of Object.entries(BEFORE)) {
        const place = widgets.findIndex((widget) => widget.name === name)
        if (place >= 0 && saved.widgets_values && !(place < saved.widgets_values.length)) widgets[place].value = value
      }
    }
  },
})
