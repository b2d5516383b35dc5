/** A file that a person gives as a picture: as it is if the server takes it so, else drawn anew within its limits. */

import { bytes as sized } from "../common/format.js";
import { newId } from "./conversation.js";

/** The defaults of the server's `[media]`; a server that was given less says so in words. */
export const MOST_PICTURES = 32;
export const MOST_BYTES = 20 * 1024 * 1024;
export const MOST_PIXELS = 50_000_000;
const LONGEST_SIDE = 16384;
const JPEG_QUALITY = 0.92;

const SIGNATURES = [
  ["image/png", 0, [0x89, 0x50, 0x4e, 0x47]],
  ["image/jpeg", 0, [0xff, 0xd8, 0xff]],
  ["image/gif", 0, [0x47, 0x49, 0x46, 0x38]],
  ["image/bmp", 0, [0x42, 0x4d]],
  ["image/webp", 8, [0x57, 0x45, 0x42, 0x50]],
];

/** `{picture, blob}`. Throws Error with words for a person if the browser cannot read it. */
export async function takePicture(file) {
  const type = served(new Uint8Array(await file.slice(0, 16).arrayBuffer()));
  const address = URL.createObjectURL(type === null ? file : new Blob([file], { type }));
  try {
    const image = await loaded(address, file.name);
    const size = fitted(image.naturalWidth || 512, image.naturalHeight || 512);
    const fits = type !== null && size.scale === 1 && file.size <= MOST_BYTES;
    const blob = fits ? new Blob([file], { type }) : await drawnAnew(image, size, type);
    const picture = {
      id: newId(),
      name: file.name || "Picture",
      type: blob.type,
      width: size.width,
      height: size.height,
      bytes: blob.size,
    };
    return { picture, blob };
  } finally {
    URL.revokeObjectURL(address);
  }
}

/** The kind of picture that a file's first bytes tell, null if the server does not take it. */
export function served(head) {
  const found = SIGNATURES.find(([, offset, marks]) => marks.every((mark, index) => head[offset + index] === mark));
  return found === undefined ? null : found[0];
}

/** A size within the server's limits, in the same proportions. */
export function fitted(width, height, { mostPixels = MOST_PIXELS, longestSide = LONGEST_SIDE } = {}) {
  const overPixels = Math.sqrt(mostPixels / (width * height));
  const scale = width * height <= mostPixels ? 1 : Math.min(overPixels, longestSide / Math.max(width, height));
  if (scale === 1) return { width, height, scale };
  return { width: Math.max(1, Math.floor(width * scale)), height: Math.max(1, Math.floor(height * scale)), scale };
}

/** "kitten.png, 640 × 480, 1.2 MiB" */
export function described({ name, width, height, bytes }) {
  return `${name}, ${width} × ${height}, ${sized(bytes)}`;
}

/** As `data:` URL, the way it is sent; null if the browser has lost the bytes. */
export function dataUrlOf(blob) {
  return new Promise((resolve) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => resolve(null);
    reader.readAsDataURL(blob);
  });
}

/** Back from a `data:` URL; fetch would need the page's policy to allow it. */
export function blobOf(dataUrl) {
  const [, type, base64] = /^data:(image\/(?:png|jpeg|webp|gif|bmp));base64,(.*)$/s.exec(dataUrl);
  const text = atob(base64);
  return new Blob([Uint8Array.from(text, (letter) => letter.charCodeAt(0))], { type });
}

async function loaded(address, name) {
  const image = new Image();
  image.src = address;
  try {
    await image.decode();
  } catch {
    throw new Error(`${name || "This"} is not a picture that this browser can read.`);
  }
  return image;
}

async function drawnAnew(image, size, type) {
  const canvas = document.createElement("canvas");
  for (let part = 1; part > 0.05; part *= 0.7) {
    canvas.width = Math.max(1, Math.floor(size.width * part));
    canvas.height = Math.max(1, Math.floor(size.height * part));
    canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
    for (const kind of type === "image/jpeg" ? ["image/jpeg"] : ["image/png", "image/jpeg"]) {
      const blob = await new Promise((resolve) => canvas.toBlob(resolve, kind, JPEG_QUALITY));
      if (blob !== null && blob.size <= MOST_BYTES) {
        Object.assign(size, { width: canvas.width, height: canvas.height });
        return blob;
      }
    }
  }
  throw new Error("This picture is too large for this browser to shrink.");
}
