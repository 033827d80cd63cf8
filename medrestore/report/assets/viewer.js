"use strict";
// Linked panes of the scan, the result, the residual and its maps, drawn by NiiVue from the volumes that the page holds.
(async () => {
  const settings = JSON.parse(document.getElementById("settings").textContent);
  const maps = settings.maps;
  const names = ["before", "after", "residual", ...Object.keys(maps)].filter((name) =>
    document.getElementById(`canvas-${name}`)
  );
  const panes = {};
  const input = (id) => document.getElementById(id);
  const state = input("state");

  // Blue below 0, near white at 0, red above: as in the pictures of the residual.
  const diverging = { R: [33, 246, 178], G: [102, 246, 24], B: [172, 246, 43], A: [255, 255, 255], I: [0, 128, 255] };

  async function load(name) {
    const held = input(`volume-${name}`);
    if (held) return niivue.NVImage.loadFromBase64({ base64: held.textContent, name: `${name}.nii.gz` });
    // The residual of two volumes on one grid is not in the page: it is subtracted here.
    const [before, after] = [panes.before.volumes[0], panes.after.volumes[0]];
    const value = (volume, index) => volume.img[index] * volume.hdr.scl_slope + volume.hdr.scl_inter;
    const residual = before.clone();
    residual.name = "residual.nii";
    residual.img = Float32Array.from(before.img, (_, index) => value(before, index) - value(after, index));
    Object.assign(residual.hdr, { datatypeCode: 16, numBitsPerVoxel: 32, scl_slope: 1, scl_inter: 0 });
    return residual;
  }

  async function open(name) {
    const pane = new niivue.Niivue({
      backColor: [0, 0, 0, 1],
      crosshairColor: [0.35, 0.75, 1, 0.7],
      crosshairWidth: 0.3,
      crosshairWidthUnit: "percent",
      fontColor: [0.75, 0.75, 0.75, 1],
      dragAndDropEnabled: false,
      isNearestInterpolation: true,
      multiplanarShowRender: 0,
      multiplanarLayout: 2,
      loadingText: "",
      logLevel: "error",
    });
    await pane.attachToCanvas(input(`canvas-${name}`));
    pane.addColormap("diverging", diverging);
    const volume = await load(name);
    volume.colormap = name === "residual" || name === "null" ? "diverging" : "gray";
    pane.addVolume(volume);
    panes[name] = pane;
  }

  function apply() {
    for (const name of names) {
      const volume = panes[name].volumes[0];
      const limit = Math.abs(Number(input("limit").value)) || settings.residual;
      const window = [Number(input("low").value), Number(input("high").value)];
      [volume.cal_min, volume.cal_max] = name === "residual" ? [-limit, limit] : maps[name] || window;
      panes[name].updateGLVolume();
    }
  }

  function look() {
    const kinds = { axial: 0, coronal: 1, sagittal: 2, all: 3 };
    for (const name of names) {
      panes[name].setInterpolation(!input("smooth").checked);
      panes[name].setSliceType(kinds[input("view").value]);
    }
  }

  // The value of the voxel that a point in mm lies in, in each volume by its own grid.
  function tell(location) {
    const place = [...location.mm].slice(0, 3);
    const letters = [["R", "L"], ["A", "P"], ["S", "I"]];
    const words = place.map((mm, axis) => `${letters[axis][mm < 0 ? 1 : 0]} ${Math.abs(mm).toFixed(1)}`);
    input("place").textContent = `${words.join(", ")} mm`;
    for (const name of names) {
      const volume = panes[name].volumes[0];
      const voxel = volume.mm2vox(place);
      const value = volume.getValue(...voxel);
      input(`value-${name}`).textContent = Number.isFinite(value) ? value.toPrecision(4) : "";
    }
  }

  function reset() {
    [input("low").value, input("high").value] = settings.window.map((value) => Number(value.toPrecision(4)));
    input("limit").value = Number(settings.residual.toPrecision(4));
    apply();
  }

  try {
    if (typeof niivue === "undefined") {
      state.textContent =
        "The viewer is a file beside this page, and is not there: keep the folder of the report together, or " +
        "make pages that hold it (--single-file). The slices below do not need it.";
      document.documentElement.dataset.viewer = "missing";
      return;
    }
    for (const name of names) await open(name);
    for (const name of names) {
      panes[name].broadcastTo(names.filter((other) => other !== name).map((other) => panes[other]), { "2d": true });
      panes[name].onLocationChange = tell;
    }
    apply();
    look();
    panes.before.createOnLocationChange();
    for (const id of ["low", "high", "limit"]) input(id).addEventListener("change", apply);
    for (const id of ["view", "smooth"]) input(id).addEventListener("change", look);
    input("reset").addEventListener("click", reset);
    state.hidden = true;
    document.documentElement.dataset.viewer = "ready";
  } catch (error) {
    state.textContent = `The viewer cannot start (${error.message}); it needs WebGL 2. The slices below do not.`;
    document.documentElement.dataset.viewer = "failed";
  }
})();
