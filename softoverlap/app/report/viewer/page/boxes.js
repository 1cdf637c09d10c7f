"use strict";
/* Boxes: where their corners lie, and their edges as bars for the 3D view. */

const Boxes = (() => {
  const COLOURS = window.softoverlapViewer.colours; // found and truth, as on the page
  for (const [kind, colour] of Object.entries(COLOURS)) {
    document.documentElement.style.setProperty(`--${kind}`, colour);
  }
  const EDGES = []; // pairs of corners; bit k of a corner's number tells its end on axis k
  for (let a = 0; a < 8; a++) {
    for (const bit of [1, 2, 4]) if (!(a & bit)) EDGES.push([a, a | bit]);
  }
  const RADIUS_MM = 0.35;

  /** Boxes in voxels of an affine, with corners in mm and in fractions of what is shown. */
  function placed(boxes, affine, base) {
    const corner = (box, number) =>
      Volumes.apply(affine, [0, 1, 2].map((axis) => box[axis + (number >> axis & 1 ? 3 : 0)] - 0.5));
    return boxes.map((one) => {
      const mm = [...Array(8).keys()].map((number) => corner(one.box, number));
      return { ...one, mm, corners: mm.map((at) => Array.from(base.convertMM2Frac(at, true))) };
    });
  }

  /** Take a mesh for each kind of boxes in place of all meshes; its name is the kind. */
  function setWires(nv, boxes) {
    for (const mesh of nv.meshes) mesh.unloadMesh(nv.gl);
    nv.meshes = [];
    for (const kind of Object.keys(COLOURS)) {
      const [points, faces] = [[], []];
      for (const box of boxes.filter((one) => one.kind === kind)) {
        for (const [a, b] of EDGES) addBar(points, faces, box.mm[a], box.mm[b]);
      }
      if (!points.length) continue;
      const rgba = new Uint8Array([...rgb(COLOURS[kind]), 255]);
      const corners = new Float32Array(points.flat());
      const mesh = new niivue.NVMesh(corners, new Uint32Array(faces), kind, rgba, 1, true, nv.gl);
      nv.meshes.push(mesh);
    }
  }

  /** Red, green and blue of `#rrggbb`. */
  function rgb(colour) {
    return [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
  }

  function addBar(points, faces, from, to) {
    const along = to.map((value, k) => value - from[k]);
    const size = Math.hypot(...along) || 1;
    const other = Math.abs(along[0]) < 0.8 * size ? [1, 0, 0] : [0, 1, 0];
    const u = radius(cross(along, other));
    const v = radius(cross(along, u));
    const first = points.length;
    for (const end of [from, to]) {
      for (const [s, t] of [[-1, -1], [1, -1], [1, 1], [-1, 1]]) {
        points.push(end.map((value, k) => value + s * u[k] + t * v[k]));
      }
    }
    for (let k = 0; k < 4; k++) {
      const [a, b] = [first + k, first + ((k + 1) % 4)];
      faces.push(a, b, b + 4, a, b + 4, a + 4);
    }
  }

  function cross([a, b, c], [d, e, f]) {
    return [b * f - c * e, c * d - a * f, a * e - b * d];
  }

  function radius(direction) {
    const size = Math.hypot(...direction) || 1;
    return direction.map((value) => (RADIUS_MM * value) / size);
  }

  return { placed, setWires, rgb, COLOURS, EDGES };
})();
