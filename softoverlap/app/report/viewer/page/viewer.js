"use strict";
/* The viewer: loads a case, keeps the controls, and tells NiiVue and the overlay what to draw. */

(() => {
  const element = (id) => document.getElementById(id);
  const data = window.softoverlapViewer;
  const ROLES = ["pred", "truth"];
  const LEVELS = [0.25, 0.5, 0.75];
  const COLOURS = { pred: "soft orange", truth: "soft green" };
  const MAPS = ["soft orange", "soft green", "soft blue", "hot", "viridis", "plasma"];
  const RAMPS = {
    "soft orange": Boxes.rgb(Boxes.COLOURS.found), "soft green": Boxes.rgb(Boxes.COLOURS.truth), "soft blue": [86, 180, 233],
  };
  const VIEWS = { axial: 0, coronal: 1, sagittal: 2, multi: 3, render: 4 };

  const state = { masks: {}, levels: {}, boxes: [], shown: {}, chosen: null };
  const layers = {}; // role: the volume that NiiVue shows for it
  let current = null; // the case whose volumes are shown or on their way
  let nv, overlay, cases;

  function say(text) {
    element("message").textContent = text;
    element("message").hidden = !text;
  }

  /* Controls */

  function control(kind, attributes) {
    return Object.assign(document.createElement(kind), attributes);
  }

  function labelled(text, input, before = false) {
    const label = control("label", {});
    label.append(...(before ? [text, input] : [input, text]));
    return label;
  }

  function maskControls(role) {
    const row = () => control("div", { className: "row" });
    const colour = control("select", { id: `${role}-colour` });
    colour.append(...MAPS.map((name) => new Option(name, name)));
    colour.value = COLOURS[role];
    const range = { type: "range", min: 0, max: 1, step: 0.05 };
    const opacity = control("input", { ...range, id: `${role}-opacity`, value: 0.6 });
    const lowest = control("input", { ...range, id: `${role}-lowest`, value: 0 });
    const shown = control("output", { id: `${role}-lowest-shown` });
    const levels = LEVELS.map((level) => {
      const id = `${role}-contour-${100 * level}`;
      const box = control("input", { type: "checkbox", id, checked: level === 0.5 });
      return labelled(String(level).slice(1), box);
    });
    const rows = [row(), row(), row(), row()];
    rows[0].append(labelled("Colour ", colour, true));
    rows[1].append(labelled("Opacity ", opacity, true));
    rows[2].append(labelled("From ", lowest, true), shown);
    rows[3].append("Lines at", ...levels);
    lowest.title = "Lowest probability that is coloured; at the left end, colour fades with it";
    rows[3].title = "Contours of the soft mask";
    element(`${role}-controls`).append(...rows);
    for (const input of [colour, opacity, lowest]) input.addEventListener("input", showMasks);
    for (const label of levels) label.firstChild.addEventListener("change", readLines);
  }

  function readMasks() {
    for (const role of ROLES) {
      const volume = layers[role];
      const lowest = Number(element(`${role}-lowest`).value);
      element(`${role}-lowest-shown`).textContent = lowest ? lowest.toFixed(2) : "soft";
      if (!volume) continue;
      volume.colormap = element(`${role}-colour`).value;
      volume.opacity = Number(element(`${role}-opacity`).value);
      // NiiVue's type 1 lets opacity follow the square of value / cal_min, which must not pass 1;
      // type 2 shows all from cal_min on as it is, and nothing below.
      volume.colormapType = lowest ? 2 : 1;
      [volume.cal_min, volume.cal_max] = [lowest || 1, 1];
    }
    if (layers.image) layers.image.opacity = Number(element("image-opacity").value);
  }

  /** Give the masks to the graphics card anew; the image stays there as it is. */
  function showMasks() {
    readMasks();
    nv.refreshColormaps();
    const masks = nv.volumes.slice(1);
    masks.forEach((volume, index) => nv.refreshLayers(volume, index + 1));
    if (nv.volumes.length === 1) nv.updateGLVolume();
    nv.drawScene();
  }

  function readLines() {
    for (const role of ROLES) {
      state.levels[role] = LEVELS.filter((level) => element(`${role}-contour-${100 * level}`).checked);
    }
    state.shown = { found: element("found-boxes").checked, truth: element("truth-boxes").checked };
    for (const mesh of nv.meshes) mesh.visible = state.shown[mesh.name];
    nv.drawScene();
  }

  function setView() {
    nv.setSliceType(VIEWS[element("view").value]);
  }

  /* A case */

  async function show(one) {
    if (one === current) return;
    current = one;
    cases.select(one);
    element("name").textContent = cases.title(one);
    say("loading …");
    showScores(one);
    const notes = [...one.missing];
    if (one.error) notes.unshift(`not scored: ${one.error}`);
    else if (one.warning) notes.unshift(one.warning);
    const loaded = await loadAll(one, notes);
    if (current !== one) return; // the user went on
    replaceVolumes(loaded);
    placeBoxes(one, loaded);
    listFindings();
    readMasks();
    nv.updateGLVolume(); // once for all, since each time takes seconds without a graphics card
    readLines();
    start(loaded);
    say(notes.join(" · ") || (nv.volumes.length ? "" : "there is no volume to show; the option --images names the scans"));
    document.body.dataset.shown = cases.title(one);
  }

  async function loadAll(one, notes) {
    const options = { image: { colormap: "gray" } };
    for (const role of ROLES) options[role] = { cal_min: 0, cal_max: 1, colormap: COLOURS[role] };
    const [loaded, spaces] = [{}, {}];
    await Promise.all(Object.entries(one.volumes).map(async ([role, address]) => {
      try {
        const wanted = one.volumes.image ? [options[role]] : [options[role], options.image];
        [loaded[role], spaces[role]] = await Volumes.load(address, ...wanted);
      } catch (error) {
        if (!notes.some((note) => note.includes(error.message))) notes.push(error.message);
      }
    }));
    // Without an image, a mask that is not seen itself gives the space for the others.
    if (!loaded.image) loaded.space = spaces.truth ?? spaces.pred;
    return loaded;
  }

  function replaceVolumes(loaded) {
    overlay.forget();
    state.masks = {};
    for (const role of ["image", "truth", "pred"]) {
      layers[role] = loaded[role];
      element(role === "image" ? "image-row" : `${role}-controls`).hidden = !loaded[role];
    }
    if (loaded.space) loaded.space.opacity = 0;
    nv.volumes = ["image", "space", "truth", "pred"].map((name) => loaded[name]).filter(Boolean);
    nv.back = nv.volumes[0] ?? null;
    nv.overlays = nv.volumes.slice(1);
    for (const role of ROLES) {
      if (loaded[role]) state.masks[role] = loaded[role];
    }
  }

  function placeBoxes(one, loaded) {
    const affine = one.affine ?? (loaded.truth ?? loaded.pred ?? loaded.image)?.hdr.affine;
    state.chosen = null;
    state.boxes = affine && nv.volumes.length ? Boxes.placed(one.boxes, affine, nv.volumes[0]) : [];
    Boxes.setWires(nv, state.boxes);
  }

  /** Begin where there is most to see: a missed lesion, a false box, else the mask's highest value. */
  function start(loaded) {
    const wrong = (box) => box.outcome === "missed" || box.outcome === "false positive";
    const first = state.boxes.find(wrong) ?? state.boxes[0];
    if (first) return goTo(first);
    const mask = loaded.truth ?? loaded.pred;
    if (!mask) return nv.drawScene();
    let best = 0;
    for (let i = 1; i < mask.img.length; i++) if (mask.img[i] > mask.img[best]) best = i;
    const [, nx, ny] = mask.hdr.dims;
    const voxel = [best % nx, Math.floor(best / nx) % ny, Math.floor(best / (nx * ny))];
    return moveTo(nv.volumes[0].convertMM2Frac(Volumes.apply(mask.hdr.affine, voxel), true));
  }

  function moveTo(frac) {
    nv.scene.crosshairPos = Array.from(frac).map((value) => Math.min(Math.max(value, 0), 1));
    nv.createOnLocationChange();
    zoom();
  }

  /** Enlarge about the crosshair. */
  function zoom() {
    const times = Number(element("zoom").value);
    element("zoom-shown").textContent = `${times} ×`;
    if (!nv.volumes.length) return;
    const mm = (frac) => nv.volumes[0].convertFrac2MM(frac, false);
    const [middle, here] = [mm([0.5, 0.5, 0.5]), mm(nv.scene.crosshairPos)];
    const pan = [0, 1, 2].map((axis) => (times > 1 ? middle[axis] - times * here[axis] : 0));
    nv.setCrosshairWidth(0.5 / times);
    nv.setPan2Dxyzmm([...pan, times]);
  }

  /* Lesions and boxes */

  function goTo(box) {
    state.chosen = box;
    moveTo([0, 1, 2].map((axis) => (box.corners[0][axis] + box.corners[7][axis]) / 2));
    state.boxes.forEach((one, index) => {
      const button = element("findings").children[index].firstChild;
      button.setAttribute("aria-current", String(one === box));
      if (one === box) CaseList.reveal(button);
    });
  }

  function listFindings() {
    element("findings-box").hidden = !state.boxes.length;
    const items = state.boxes.map((box) => {
      const word = box.kind === "found" ? "box" : "lesion";
      const parts = [`${word} ${box.number ?? ""}`.trim(), box.outcome];
      if (box.score !== null) parts.push(cases.number(box.score));
      const button = control("button", { type: "button", className: box.kind });
      button.textContent = parts.filter(Boolean).join(", ");
      button.addEventListener("click", () => goTo(box));
      const item = control("li", {});
      item.append(button);
      return item;
    });
    element("findings").replaceChildren(...items);
  }

  function nextFinding() {
    if (!state.boxes.length) return;
    goTo(state.boxes[(state.boxes.indexOf(state.chosen) + 1) % state.boxes.length]);
  }

  function showScores(one) {
    const known = data.columns.filter((column) => typeof one.scores[column.name] === "number");
    const rows = known.map(({ name, heading, words }) => {
      const row = control("tr", { title: words });
      row.append(
        control("th", { scope: "row", textContent: heading }),
        control("td", { textContent: cases.number(one.scores[name]) }),
      );
      return row;
    });
    element("scores").replaceChildren(...rows);
  }

  function showPlace(place) {
    const mm = Array.from(place.mm).slice(0, 3);
    const parts = [`RAS ${mm.map((value) => value.toFixed(1)).join(", ")} mm`];
    for (const [role, word] of [["image", "image"], ["pred", "prediction"], ["truth", "truth"]]) {
      if (!layers[role]) continue;
      parts.push(`${word} ${cases.number(Volumes.valueAt(layers[role], mm))}`);
    }
    element("place").textContent = parts.join(" · ");
  }

  /* Start */

  function keys(event) {
    const typing = /INPUT|SELECT|TEXTAREA/.test(event.target.tagName) && event.target.type !== "checkbox" && event.target.type !== "range";
    if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
    const action = { n: () => cases.step(1), p: () => cases.step(-1), b: nextFinding }[event.key.toLowerCase()];
    if (!action) return;
    event.preventDefault();
    event.stopPropagation();
    action();
  }

  async function begin() {
    document.title = `${data.title}: softoverlap viewer`;
    element("title").textContent = data.title;
    ROLES.forEach(maskControls);
    cases = CaseList.create(data, show);
    nv = new niivue.Niivue({
      backColor: [0, 0, 0, 1], crosshairColor: [0.6, 0.6, 0.6, 0.6], crosshairWidth: 0.5,
      meshThicknessOn2D: 0, meshXRay: 0.8, multiplanarPadPixels: 6, dragAndDropEnabled: false, logLevel: "error", show3Dcrosshair: true,
      isRadiologicalConvention: true, sagittalNoseLeft: true, multiplanarShowRender: niivue.SHOW_RENDER.NEVER, fontMinPx: 13, fontColor: [0.85, 0.85, 0.85, 1], showAllOrientationMarkers: true, loadingText: "",
      viewModeHotKey: "", cycleClipPlaneHotKey: "", clipPlaneHotKey: "",
    });
    for (const [name, [r, g, b]] of Object.entries(RAMPS)) {
      nv.addColormap(name, { R: [r, r], G: [g, g], B: [b, b], A: [0, 255], I: [0, 255] });
    }
    await nv.attachToCanvas(element("volume"));
    overlay = Overlay.create(nv, element("lines"));
    const drawVolume = nv.drawScene.bind(nv);
    nv.drawScene = () => {
      const result = drawVolume();
      overlay.draw(state);
      return result;
    };
    nv.onLocationChange = showPlace;
    element("previous").addEventListener("click", () => cases.step(-1));
    element("next").addEventListener("click", () => cases.step(1));
    element("next-finding").addEventListener("click", nextFinding);
    element("view").addEventListener("change", setView);
    element("zoom").addEventListener("input", zoom);
    element("image-opacity").addEventListener("input", showMasks);
    element("radiological").addEventListener("change", (event) => nv.setRadiologicalConvention(event.target.checked));
    for (const id of ["found-boxes", "truth-boxes"]) element(id).addEventListener("change", readLines);
    document.addEventListener("keydown", keys, { capture: true });
    readLines();
    if (cases.first()) await show(cases.first());
    else say("there are no cases");
  }

  begin().catch((error) => say(`the viewer cannot start: ${error.message}`));
})();
