// Colours. A stored code is an 8-bit number; value = max * (|code| / top) ** 3, sign kept in signed maps.
// Sequential: the viridis anchors. Diverging: blue - neutral - orange, told apart in every common colour blindness;
// the neutral middle follows the page's background so that zero recedes in both schemes.
const VIRIDIS = ["#440154", "#482878", "#3e4a89", "#31688e", "#26828e", "#1f9e89", "#35b779", "#6ece58", "#b5de2b", "#fde725"];
const DIVERGING = {
  light: ["#08306b", "#2a6fb5", "#8fbfe3", "#f7f5f1", "#f3b27a", "#cf6418", "#7a2c04"],
  dark: ["#a6d5ff", "#5fa3e0", "#2c5078", "#17191c", "#7c4522", "#d98243", "#ffd2a6"],
};
const POWER = 3;
// A scale takes the part of the picture's colour range, 0..1, to a place among the colours. The range ends at map.top, the
// 99.5 % quantile where that is far below the largest cell; the logarithm spans up to the largest, "row" to a row's own.
const SCALES = {
  root: { to: Math.sqrt, from: (x) => x * x, end: (map) => map.top },
  linear: { to: (x) => x, from: (x) => x, end: (map) => map.top },
  log: { to: (x) => (x <= 0 ? 0 : Math.max(0, 1 + Math.log10(x) / 4)), from: (x) => (x <= 0 ? 0 : 10 ** (4 * (x - 1))), end: (map) => map.max },
  row: { to: Math.sqrt, from: (x) => x * x, end: (map) => map.max },
};

let printing = false;
const darkScheme = window.matchMedia("(prefers-color-scheme: dark)");
function isDark() { return darkScheme.matches && !printing; }

function mix(stops, x) {
  const place = Math.min(1, Math.max(0, x)) * (stops.length - 1);
  const low = Math.min(stops.length - 2, Math.floor(place));
  const part = place - low;
  const channel = (hex, k) => parseInt(hex.slice(1 + 2 * k, 3 + 2 * k), 16);
  return [0, 1, 2].map((k) => Math.round(channel(stops[low], k) * (1 - part) + channel(stops[low + 1], k) * part));
}

// x in [-1, 1] (signed) or [0, 1], already on the chosen scale
function colourOf(x, signed) {
  return signed ? mix(DIVERGING[isDark() ? "dark" : "light"], (x + 1) / 2) : mix(VIRIDIS, x);
}

function decode(code, map) {
  const number = map.signed ? (code > 127 ? code - 256 : code) / 127 : code / 255;
  return Math.sign(number) * map.max * Math.abs(number) ** POWER;
}

// half the distance to the neighbouring codes: what the 8-bit storage can be off by
function storageError(code, map) {
  const top = map.signed ? 127 : 255;
  const size = map.signed && code > 127 ? 256 - code : code;
  return map.max * (Math.min(1, (size + 0.5) / top) ** POWER - Math.max(0, (size - 0.5) / top) ** POWER) / 2;
}

function colourTable(map, scale) {
  const table = new Uint32Array(256), stretch = map.max > 0 ? map.max / SCALES[scale].end(map) : 0;
  for (let code = 0; code < 256; code++) {
    const number = map.signed ? (code > 127 ? code - 256 : code) / 127 : code / 255;
    const x = Math.sign(number) * SCALES[scale].to(Math.min(1, stretch * Math.abs(number) ** POWER));
    const [r, g, b] = colourOf(x, map.signed);
    table[code] = (255 << 24) | (b << 16) | (g << 8) | r;
  }
  return table;
}

// for "row": codes of a row stretched so that its largest gets the last colour (v / largest = (c / largest c) ** 3)
function rowStretch(codes, pixels, row, signed) {
  const top = signed ? 127 : 255, table = new Uint8Array(256);
  let most = 0;
  for (let k = row * pixels; k < (row + 1) * pixels; k++) most = Math.max(most, signed && codes[k] > 127 ? 256 - codes[k] : codes[k]);
  for (let code = 0; code < 256; code++) {
    const size = signed && code > 127 ? 256 - code : code;
    const grown = most ? Math.min(top, Math.round((size * top) / most)) : 0;
    table[code] = signed && code > 127 ? (256 - grown) & 255 : grown;
  }
  return table;
}

function bytesOf(base64) {
  const text = atob(base64);
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  return bytes;
}

async function inflate(base64) {
  const stream = new Blob([bytesOf(base64)]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

function number(x, digits = 3) {
  if (x === null || x === undefined || Number.isNaN(x)) return "–";
  const size = Math.abs(x);
  if (Number.isInteger(x) && size < 1e5) return String(x).replace("-", "−");
  if (size < 1e-3 || size >= 1e5) return x.toExponential(1).replace("e-", "e−").replace("e+", "e").replace(/^-/, "−");
  const text = size >= 100 ? x.toFixed(0) : size >= 10 ? x.toFixed(1) : x.toPrecision(digits).replace(/\.?0+$/, "");
  return text.replace(/^-/, "−");
}
