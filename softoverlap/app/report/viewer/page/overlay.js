"use strict";
/* Contours of the soft masks and boxes, drawn as lines over the slices of NiiVue. */

const Overlay = (() => {
  const COLOURS = { ...Boxes.COLOURS, pred: Boxes.COLOURS.found };
  const WIDTHS = { 0.25: 1, 0.5: 2, 0.75: 1 };
  const DASHES = { 0.25: [2, 3], 0.5: [], 0.75: [6, 3] };

  /** Where a slice lies: from fractions of the volume to pixels of the canvas. */
  function tileOf(nv, index) {
    const slice = nv.screenSlices[index];
    if (slice.axCorSag > 2) return null;
    const [left, top, width, height] = slice.leftTopWidthHeight;
    const x = Math.min(left, left + width);
    const size = [Math.abs(width), Math.abs(height)];
    const at = (u, v) =>
      nv.screenXY2TextureFrac(x + u * size[0], top + v * size[1], index, false);
    const origin = at(0.25, 0.25);
    const right = at(0.75, 0.25);
    const down = at(0.25, 0.75);
    const depth = [2, 1, 0][slice.axCorSag];
    const [p, q] = [0, 1, 2].filter((axis) => axis !== depth);
    const m = [
      2 * (right[p] - origin[p]), 2 * (down[p] - origin[p]),
      2 * (right[q] - origin[q]), 2 * (down[q] - origin[q]),
    ];
    const det = m[0] * m[3] - m[1] * m[2];
    if (!det) return null;
    const pixel = (frac) => {
      const dp = frac[p] - origin[p];
      const dq = frac[q] - origin[q];
      return [
        x + size[0] * (0.25 + (m[3] * dp - m[1] * dq) / det),
        top + size[1] * (0.25 + (m[0] * dq - m[2] * dp) / det),
      ];
    };
    return { axes: [p, q], depth, at: slice.sliceFrac, pixel, rect: [x, top, ...size] };
  }

  /** Values of a mask at the voxel centres of a slice of the base, with a border of zeros. */
  function grid(base, mask, tile) {
    const dims = base.dimsRAS.slice(1, 4);
    const [p, q] = tile.axes;
    const [columns, rows] = [dims[p] + 2, dims[q] + 2];
    const place = (i, j) => {
      const frac = [0, 0, 0];
      frac[tile.depth] = tile.at;
      frac[p] = (i - 0.5) / dims[p];
      frac[q] = (j - 0.5) / dims[q];
      return Array.from(base.convertFrac2MM(frac, true)).slice(0, 3);
    };
    const origin = place(0, 0);
    const along = place(1, 0).map((value, k) => value - origin[k]);
    const across = place(0, 1).map((value, k) => value - origin[k]);
    const values = Volumes.plane(mask, { origin, along, across, columns, rows });
    return { values, columns, rows, dims, axes: tile.axes };
  }

  /** The lines at a level, by marching squares, as pairs of fractions of the volume. */
  function contour({ values, columns, rows, dims, axes: [p, q] }, level) {
    const lines = [];
    const point = (i, j, di, dj, a, b) => {
      const share = (level - a) / (b - a);
      const frac = [0, 0, 0];
      frac[p] = (i + di * share - 0.5) / dims[p];
      frac[q] = (j + dj * share - 0.5) / dims[q];
      return frac;
    };
    for (let j = 0; j < rows - 1; j++) {
      for (let i = 0; i < columns - 1; i++) {
        const k = i + j * columns;
        const a = values[k], b = values[k + 1], c = values[k + 1 + columns], d = values[k + columns];
        const above = (a >= level) + (b >= level) + (c >= level) + (d >= level);
        if (above === 0 || above === 4) continue;
        const sides = [];
        if (a >= level !== b >= level) sides.push(point(i, j, 1, 0, a, b));
        if (b >= level !== c >= level) sides.push(point(i + 1, j, 0, 1, b, c));
        if (d >= level !== c >= level) sides.push(point(i, j + 1, 1, 0, d, c));
        if (a >= level !== d >= level) sides.push(point(i, j, 0, 1, a, d));
        if (sides.length === 2) lines.push(sides);
        else if (a + b + c + d >= 4 * level === a >= level) {
          lines.push([sides[0], sides[1]], [sides[2], sides[3]]);
        } else lines.push([sides[3], sides[0]], [sides[1], sides[2]]);
      }
    }
    return lines;
  }

  /** The outline of a box in a slice, as points, or none if the slice passes it by. */
  function outline(corners, tile) {
    const points = [];
    for (const [a, b] of Boxes.EDGES) {
      const [from, to] = [corners[a][tile.depth] - tile.at, corners[b][tile.depth] - tile.at];
      if (from === to || from * to > 0 || (from > 0) === (to > 0)) continue;
      const share = from / (from - to);
      points.push(tile.pixel(corners[a].map((value, k) => value + share * (corners[b][k] - value))));
    }
    if (points.length < 3) return [];
    const [cx, cy] = [0, 1].map((k) => points.reduce((sum, one) => sum + one[k], 0) / points.length);
    const angle = (one) => Math.atan2(one[1] - cy, one[0] - cx);
    return points.sort((one, other) => angle(one) - angle(other));
  }

  function drawBox(pen, points, { colour, text, bold, scale, rect }) {
    pen.strokeStyle = colour;
    pen.setLineDash([]);
    pen.lineWidth = (bold ? 3 : 1.5) * scale;
    pen.beginPath();
    points.forEach(([x, y], k) => (k ? pen.lineTo(x, y) : pen.moveTo(x, y)));
    pen.closePath();
    pen.stroke();
    if (!text) return;
    pen.font = `${12 * scale}px system-ui, sans-serif`;
    const [left, top] = [0, 1].map((k) => Math.min(...points.map((one) => one[k])));
    const x = Math.min(left, rect[0] + rect[2] - pen.measureText(text).width - 2 * scale);
    const y = Math.max(top - 4 * scale, rect[1] + 12 * scale);
    pen.lineWidth = 3 * scale;
    pen.strokeStyle = "#000";
    pen.strokeText(text, x, y);
    pen.fillStyle = colour;
    pen.fillText(text, x, y);
  }

  /** Draws over a viewer; `state` tells masks, levels and boxes. */
  function create(nv, canvas) {
    const pen = canvas.getContext("2d");
    let cache = new Map();

    function lines(state, role, tile, level) {
      const key = [role, tile.depth, tile.at, level].join();
      if (!cache.has(key)) {
        if (cache.size > 60) cache = new Map();
        const values = grid(nv.volumes[0], state.masks[role], tile);
        cache.set(key, contour(values, level));
      }
      return cache.get(key);
    }

    function drawContours(state, tile, scale) {
      for (const [role, levels] of Object.entries(state.levels)) {
        if (!state.masks[role]) continue;
        for (const level of levels) {
          pen.strokeStyle = COLOURS[role];
          pen.lineWidth = WIDTHS[level] * scale;
          pen.setLineDash(DASHES[level].map((length) => length * scale));
          pen.beginPath();
          for (const [from, to] of lines(state, role, tile, level)) {
            pen.moveTo(...tile.pixel(from));
            pen.lineTo(...tile.pixel(to));
          }
          pen.stroke();
        }
      }
    }

    function draw(state) {
      const view = nv.gl.canvas;
      if (canvas.width !== view.width || canvas.height !== view.height) {
        [canvas.width, canvas.height] = [view.width, view.height];
      }
      pen.clearRect(0, 0, canvas.width, canvas.height);
      if (!nv.volumes.length) return;
      const scale = view.width / Math.max(view.clientWidth, 1);
      nv.screenSlices.forEach((_, index) => {
        const tile = tileOf(nv, index);
        if (!tile) return;
        pen.save();
        pen.beginPath();
        pen.rect(...tile.rect);
        pen.clip();
        drawContours(state, tile, scale);
        for (const box of state.boxes.filter((one) => state.shown[one.kind])) {
          const points = outline(box.corners, tile);
          const text = box.score === null ? "" : box.score.toFixed(2);
          const style = { colour: COLOURS[box.kind], text, bold: box === state.chosen, scale, rect: tile.rect };
          if (points.length) drawBox(pen, points, style);
        }
        pen.restore();
      });
    }

    return { draw, forget: () => (cache = new Map()) };
  }

  return { create };
})();
