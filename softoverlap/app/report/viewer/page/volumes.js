"use strict";
/* Volumes: fetched from the server, or handed over by a script that lies beside the page. */

const softoverlapPending = new Map();

/** A volume's script calls this with its name and its bytes in base 64. */
function softoverlapVolume(name, text) {
  softoverlapPending.get(name)?.(text);
}

const Volumes = (() => {
  function fromScript(address) {
    const name = address.slice(0, -".js".length);
    return new Promise((resolve, reject) => {
      const script = document.createElement("script");
      const finish = () => {
        script.remove();
        softoverlapPending.delete(name);
      };
      softoverlapPending.set(name, (text) => resolve(decoded(text)));
      script.onload = finish;
      script.onerror = () => {
        finish();
        reject(new Error(`${address} is missing`));
      };
      script.src = address;
      document.head.append(script);
    });
  }

  function decoded(text) {
    const characters = atob(text);
    const bytes = new Uint8Array(characters.length);
    for (let i = 0; i < bytes.length; i++) bytes[i] = characters.charCodeAt(i);
    return bytes.buffer;
  }

  async function fromServer(address) {
    const answer = await fetch(address);
    if (!answer.ok) throw new Error(await answer.text());
    return answer.arrayBuffer();
  }

  /** The volumes that NiiVue makes of the file at an address: one for each of the options. */
  async function load(address, ...options) {
    const script = address.endsWith(".js");
    const url = await (script ? fromScript(address) : fromServer(address));
    const name = script ? "volume.nii.gz" : address.split("/").pop();
    return Promise.all(options.map((one) => niivue.NVImage.loadFromUrl({ url, name, ...one })));
  }

  /* Affines are rows of numbers: voxel indices to RAS mm. */

  function apply(affine, [x, y, z]) {
    return affine.slice(0, 3).map((row) => row[0] * x + row[1] * y + row[2] * z + row[3]);
  }

  function inverse(affine) {
    const [a, b, c] = affine[0];
    const [d, e, f] = affine[1];
    const [g, h, i] = affine[2];
    const det = a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g);
    const rows = [
      [e * i - f * h, c * h - b * i, b * f - c * e],
      [f * g - d * i, a * i - c * g, c * d - a * f],
      [d * h - e * g, b * g - a * h, a * e - b * d],
    ].map((row) => row.map((value) => value / det));
    const shift = [affine[0][3], affine[1][3], affine[2][3]];
    return rows.map((row) => [...row, -row.reduce((sum, value, k) => sum + value * shift[k], 0)]);
  }

  /** A volume's value at a place in mm: that of the voxel there, 0 outside. */
  function valueAt(volume, mm) {
    const [, nx, ny, nz] = volume.hdr.dims;
    const [x, y, z] = apply(inverse(volume.hdr.affine), mm).map(Math.round);
    if (x < 0 || y < 0 || z < 0 || x >= nx || y >= ny || z >= nz) return 0;
    const value = volume.img[x + nx * (y + ny * z)];
    return value * (volume.hdr.scl_slope || 1) + (volume.hdr.scl_inter || 0);
  }

  /**
   * A volume's values at origin + i * along + j * across, in mm, for i and j from 1 to the last but
   * one: a plane with a border of zeros. Without calls within, since scrolling waits for it.
   */
  function plane(volume, { origin, along, across, columns, rows }) {
    const [, nx, ny, nz] = volume.hdr.dims;
    const back = inverse(volume.hdr.affine);
    const start = apply(back, origin);
    const turned = (step) => apply(back, step).map((value, k) => value - back[k][3]);
    const [u, v] = [turned(along), turned(across)];
    const slope = volume.hdr.scl_slope || 1;
    const shift = volume.hdr.scl_inter || 0;
    const values = new Float32Array(columns * rows);
    for (let j = 1; j < rows - 1; j++) {
      for (let i = 1; i < columns - 1; i++) {
        const x = Math.round(start[0] + i * u[0] + j * v[0]);
        const y = Math.round(start[1] + i * u[1] + j * v[1]);
        const z = Math.round(start[2] + i * u[2] + j * v[2]);
        if (x < 0 || y < 0 || z < 0 || x >= nx || y >= ny || z >= nz) continue;
        values[i + j * columns] = volume.img[x + nx * (y + ny * z)] * slope + shift;
      }
    }
    return values;
  }

  return { load, apply, valueAt, plane };
})();
