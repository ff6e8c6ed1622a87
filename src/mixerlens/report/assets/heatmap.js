// One head's coefficients: rows are the tokens that read, columns the tokens that are read.
// The picture is drawn pixel by pixel from the stored cells, so that a cell covers exactly the tokens it pooled.
const SMALLEST_VIEW = 4;

class HeatMap {
  constructor(figure, head, page) {
    this.figure = figure; this.head = head; this.page = page; this.time = page.time;
    this.box = figure.querySelector(".map");
    this.canvas = figure.querySelector("canvas.plot");
    this.view = { x: 0, y: 0, span: this.time };
    this.scale = "root"; this.row = null; this.pointers = new Map();
    const longest = page.tokens ? page.tokens.reduce((most, token) => Math.max(most, token.length), 0) : 0;
    const pooled = this.pooled = head.map.levels[head.map.levels.length - 1].side > 1; // names are ranges, "first…last"
    this.room = 14 + 6.7 * Math.min(pooled ? 13 : 11, pooled ? 2 * longest + 1 : longest);
    this.listen();
  }

  async start() {
    this.levels = await Promise.all(this.head.map.levels.map(async (level) => {
      const cell = new Int32Array(this.time);
      for (let k = 0; k < level.pixels; k++) cell.fill(k, level.edges[k], level.edges[k + 1]);
      return { ...level, codes: await inflate(level.data), cell };
    }));
    this.draw();
  }

  // the finest stored level whose cells are no smaller than a screen pixel: a finer one would be drawn with cells left out
  level(pixels) {
    const fits = this.levels.filter((level) => (level.pixels * this.view.span) / this.time <= pixels);
    return fits[fits.length - 1] || this.levels[0];
  }

  frame() {
    const wide = this.canvas.clientWidth || 480;
    const cell = (wide - 60) / this.view.span;
    this.labels = cell >= 11 && this.page.tokens !== null;
    const digits = String(this.time).length; // a range of two numbers needs more room than one
    const margin = this.labels ? Math.min(this.room, wide * 0.2) : this.pooled ? 30 + 6.7 * (2 * digits + 1) : 56;
    return { left: margin, top: 6, size: wide - margin - 6, wide, high: wide };
  }

  draw() {
    if (!this.levels) return;
    if (!this.canvas.clientWidth) return;
    const f = (this.f = this.frame());
    const ratio = Math.min(2, window.devicePixelRatio || 1);
    this.canvas.width = Math.round(f.wide * ratio); this.canvas.height = Math.round(f.high * ratio);
    const pen = this.canvas.getContext("2d");
    pen.scale(ratio, ratio);
    const size = Math.round(f.size * ratio);
    const level = (this.shown = this.level(size));
    const table = colourTable(this.head.map, this.scale);
    const picture = new ImageData(size, size);
    const out = new Uint32Array(picture.data.buffer);
    const tokens = new Int32Array(size);
    const step = this.view.span / size;
    let row = -1, stretch = null;
    for (let x = 0; x < size; x++) tokens[x] = Math.min(this.time - 1, Math.floor(this.view.x + (x + 0.5) * step));
    for (let y = 0; y < size; y++) {
      const i = Math.min(this.time - 1, Math.floor(this.view.y + (y + 0.5) * step));
      const start = level.cell[i] * level.pixels;
      if (this.scale === "row" && level.cell[i] !== row) { row = level.cell[i]; stretch = rowStretch(level.codes, level.pixels, row, this.head.map.signed); }
      for (let x = 0; x < size; x++) {
        if (this.head.causal && tokens[x] > i) break; // the future stays blank
        const code = level.codes[start + level.cell[tokens[x]]];
        out[y * size + x] = table[stretch ? stretch[code] : code];
      }
    }
    const ink = getComputedStyle(document.body);
    pen.putImageData(picture, Math.round(f.left * ratio), Math.round(f.top * ratio));
    pen.strokeStyle = ink.getPropertyValue("--strong-line");
    this.hatch(pen, f);
    pen.strokeRect(f.left - 0.5, f.top - 0.5, f.size + 1, f.size + 1);
    this.axes(pen, f, ink);
    this.words();
    this.figure.dataset.ready = "1";
  }

  // the future, where nothing is drawn, is no zero: thin lines tell it apart
  hatch(pen, f) {
    if (!this.head.causal) return;
    pen.save();
    pen.beginPath(); pen.rect(f.left, f.top, f.size, f.size); pen.clip();
    pen.globalCompositeOperation = "destination-over";
    pen.lineWidth = 0.7; pen.globalAlpha = 0.7;
    pen.beginPath();
    for (let k = 0; k < 2 * f.size; k += 9) { pen.moveTo(f.left + k, f.top); pen.lineTo(f.left + k - f.size, f.top + f.size); }
    pen.stroke();
    pen.restore();
  }

  // the names of the cells in view along one axis, [middle, name]: every one covers several tokens, and says which
  cellNames(start, letters, apart) {
    const { edges } = this.shown, tokens = this.page.tokens, names = [];
    const cell = this.f.size / this.view.span;
    let before = -Infinity;
    for (let k = 0; k + 1 < edges.length; k++) {
      const middle = ((edges[k] + edges[k + 1]) / 2 - start) * cell, last = edges[k + 1] - 1;
      if (middle < 0 || middle > this.f.size || middle - before < apart) continue;
      before = middle;
      const part = Math.max(1, Math.floor((letters - 1) / 2));
      const ends = this.labels ? [shorten(tokens[edges[k]], part), shorten(tokens[last], part)] : [edges[k], last];
      names.push([middle, edges[k] === last ? String(ends[0]) : ends.join(this.labels ? "…" : "–")]);
    }
    return names;
  }

  axes(pen, f, ink) {
    const cell = f.size / this.view.span;
    pen.fillStyle = ink.getPropertyValue("--soft");
    pen.font = "11px " + ink.getPropertyValue("--sans");
    const first = Math.ceil(this.view.x), firstRow = Math.ceil(this.view.y);
    const stride = this.labels ? 1 : niceStep(this.view.span / 5);
    const letters = Math.floor((f.left - 8) / 6.7);
    const name = (t) => (this.labels ? shorten(this.page.tokens[t], letters) : String(t));
    if (this.labels) pen.font = "11px " + ink.getPropertyValue("--mono");
    pen.textBaseline = "middle";
    const pooled = this.shown.side > 1 && (this.labels || this.shown.side * cell > 8); // cells large enough to see
    const ticks = (start, from, apart) => {
      if (pooled) return this.cellNames(start, letters, apart);
      const found = [];
      for (let t = from - (from % stride); t < start + this.view.span; t += stride) {
        const at = (t + 0.5 - start) * cell;
        if (at >= -1 && at <= f.size && t < this.time) found.push([at, name(t)]);
      }
      return found;
    };
    for (const [at, text] of ticks(this.view.y, firstRow, this.labels ? 11 : 40)) {
      pen.textAlign = "right"; pen.fillText(text, f.left - 6, f.top + at);
    }
    for (const [at, name] of ticks(this.view.x, first, this.labels ? 11 : 90)) {
      const x = f.left + at;
      if (this.labels) {
        pen.save(); pen.translate(x, f.top + f.size + 6); pen.rotate(-Math.PI / 2);
        pen.textAlign = "right"; pen.fillText(name, 0, 0); pen.restore();
      } else { pen.textAlign = "center"; pen.fillText(name, Math.min(x, f.wide - pen.measureText(name).width / 2 - 1), f.top + f.size + 11); }
    }
    if (this.labels) return;
    pen.font = "11px " + ink.getPropertyValue("--sans");
    pen.textAlign = "center";
    pen.fillText(`column j: ${this.page.unit} read`, f.left + f.size / 2, f.top + f.size + 29);
    pen.save(); pen.translate(8, f.top + f.size / 2); pen.rotate(-Math.PI / 2);
    pen.fillText(`row i: ${this.page.unit} that reads`, 0, 0); pen.restore();
  }

  words() {
    const v = this.view, last = (x) => Math.min(this.time, Math.ceil(x + v.span)) - 1;
    const range = this.figure.querySelector(".range");
    const side = this.shown.side;
    const kind = this.head.map.signed ? "signed mean of α" : "mean of |α|";
    range.textContent = `rows ${Math.floor(v.y)}–${last(v.y)}, columns ${Math.floor(v.x)}–${last(v.x)} of ${this.time} · ` +
      (side === 1 ? `one cell is one coefficient` : `one cell is the ${kind} over ${side} × ${side} pairs`);
    Object.assign(range.dataset, { x: v.x, y: v.y, span: v.span, side });
    this.box.classList.toggle("zoomed", v.span < this.time);
    for (const button of this.figure.querySelectorAll("[data-do]")) {
      const at = button.dataset.do;
      button.disabled = at === "in" ? v.span <= SMALLEST_VIEW : v.span >= this.time;
    }
    legend(this.figure.querySelector(".legend"), this.head.map, this.scale);
  }

  // zoom by a factor about a point given in parts of the plot, 0..1
  zoom(factor, px = 0.5, py = 0.5) {
    const v = this.view;
    const span = Math.min(this.time, Math.max(Math.min(SMALLEST_VIEW, this.time), v.span * factor));
    this.move(v.x + (v.span - span) * px, v.y + (v.span - span) * py, span);
  }

  move(x, y, span = this.view.span) {
    const clamp = (value) => Math.min(this.time - span, Math.max(0, value));
    this.view = { x: clamp(x), y: clamp(y), span };
    if (!this.waiting) { this.waiting = true; requestAnimationFrame(() => { this.waiting = false; this.draw(); }); }
  }

  place(event) {
    const box = this.canvas.getBoundingClientRect();
    return { x: (event.clientX - box.left - this.f.left) / this.f.size, y: (event.clientY - box.top - this.f.top) / this.f.size };
  }

  tokenAt(part) {
    const at = (start, p) => Math.floor(start + p * this.view.span);
    if (part.x < 0 || part.x >= 1 || part.y < 0 || part.y >= 1) return null;
    return { i: Math.min(this.time - 1, at(this.view.y, part.y)), j: Math.min(this.time - 1, at(this.view.x, part.x)) };
  }

  listen() {
    const c = this.canvas;
    c.addEventListener("wheel", (event) => {
      // the page keeps its scrolling until the picture has been clicked or tabbed into
      if (!this.f || (document.activeElement !== c && !event.ctrlKey)) return;
      event.preventDefault();
      const p = this.place(event);
      this.zoom(Math.exp(event.deltaY * 0.0022), p.x, p.y);
    }, { passive: false });
    c.addEventListener("pointerdown", (event) => {
      this.pointers.set(event.pointerId, event); this.moved = false;
      if (event.pointerType === "mouse") c.setPointerCapture(event.pointerId);
    });
    c.addEventListener("pointermove", (event) => this.pointerMoved(event));
    const end = (event) => {
      if (this.pointers.has(event.pointerId) && event.type === "pointerup" && !this.moved && this.f) this.pick(this.tokenAt(this.place(event)));
      this.pointers.delete(event.pointerId); this.box.classList.remove("dragging");
    };
    for (const name of ["pointerup", "pointercancel"]) c.addEventListener(name, end);
    c.addEventListener("pointerleave", () => { this.figure.querySelector(".readout").textContent = ""; });
    c.addEventListener("dblclick", (event) => { const p = this.place(event); this.zoom(0.4, p.x, p.y); });
    c.addEventListener("keydown", (event) => this.key(event));
    this.figure.querySelector(".tools").addEventListener("click", (event) => {
      const wanted = event.target.closest("[data-do]");
      if (wanted) this.act(wanted.dataset.do);
    });
    this.figure.querySelector("select").addEventListener("change", (event) => { this.scale = event.target.value; this.draw(); });
  }

  pointerMoved(event) {
    if (!this.f || !this.levels) return;
    const before = this.pointers.get(event.pointerId);
    if (before && this.pointers.size === 2) {
      const other = [...this.pointers.values()].find((p) => p.pointerId !== event.pointerId);
      const gap = (a) => Math.hypot(a.clientX - other.clientX, a.clientY - other.clientY) || 1;
      const a = this.place(event), b = this.place(other);
      this.zoom(gap(before) / gap(event), (a.x + b.x) / 2, (a.y + b.y) / 2);
      this.moved = true; this.pointers.set(event.pointerId, event);
    } else if (before) {
      const dx = event.clientX - before.clientX, dy = event.clientY - before.clientY;
      if (!this.moved && Math.hypot(dx, dy) < 4) return;
      this.moved = true; this.box.classList.add("dragging");
      const part = this.view.span / this.f.size;
      this.move(this.view.x - dx * part, this.view.y - dy * part);
      this.pointers.set(event.pointerId, event);
    } else this.tell(this.tokenAt(this.place(event)));
  }

  key(event) {
    const part = this.view.span / 8;
    const moves = { ArrowLeft: [-part, 0], ArrowRight: [part, 0], ArrowUp: [0, -part], ArrowDown: [0, part] };
    const acts = { "+": "in", "=": "in", "-": "out", "_": "out", 0: "all", Home: "all", Escape: "all" };
    if (moves[event.key] && this.view.span < this.time) this.move(this.view.x + moves[event.key][0], this.view.y + moves[event.key][1]);
    else if (acts[event.key]) this.act(acts[event.key]);
    else return;
    event.preventDefault();
  }

  act(what) {
    if (what === "in") this.zoom(0.5);
    if (what === "out") this.zoom(2);
    if (what === "all") this.move(0, 0, this.time);
  }

  value(i, j, level = this.levels[this.levels.length - 1]) {
    const code = level.codes[level.cell[i] * level.pixels + level.cell[j]];
    return { value: decode(code, this.head.map), error: storageError(code, this.head.map), code };
  }

  tell(at) {
    const out = this.figure.querySelector(".readout");
    if (!at || (this.head.causal && at.j > at.i)) { out.textContent = at ? "the future: no coefficient" : ""; return; }
    const { value, error } = this.value(at.i, at.j, this.shown);
    const name = (t) => (this.page.tokens ? `${t} “${this.page.tokens[t]}”` : String(t));
    out.textContent = `i = ${name(at.i)}, j = ${name(at.j)}, lag ${at.i - at.j}: ` +
      `${this.shown.side > 1 ? `mean of a ${this.shown.side} × ${this.shown.side} cell` : "α"} = ${number(value)} ± ${number(error, 1)}`;
  }

  // a click chooses a row and shows, on the text itself, what that token reads
  pick(at) {
    if (!at) return;
    const box = this.figure.parentElement.querySelector(".reads");
    const tokens = this.page.tokens;
    const finest = this.levels[this.levels.length - 1];
    box.hidden = false; box.replaceChildren();
    const pooled = finest.side > 1 ? ` (means over ${finest.side} × ${finest.side} pairs)` : "";
    box.append(element("p", {}, `What ${this.page.unit} ${at.i}${tokens ? ` “${tokens[at.i]}”` : ""} reads, coloured as above${pooled}. Click another row to change it.`));
    const list = element("div", { class: "tokens" });
    const ids = !tokens || tokens.every((token) => /^\d+$/.test(token)); // numbers do not bring their own spaces
    const table = colourTable(this.head.map, this.scale), row = finest.cell[at.i];
    const stretch = this.scale === "row" ? rowStretch(finest.codes, finest.pixels, row, this.head.map.signed) : Uint8Array.from({ length: 256 }, (_, k) => k);
    for (let j = 0; j < this.time; j++) {
      const span = element("span", {}, ids ? " " + (tokens ? tokens[j] : j) : tokens[j]);
      if (!this.head.causal || j <= at.i) {
        const { value, code: stored } = this.value(at.i, j, finest), code = stretch[stored];
        const [r, g, b] = [table[code] & 255, (table[code] >> 8) & 255, (table[code] >> 16) & 255];
        const size = Math.abs(decode(code, this.head.map)) / (SCALES[this.scale].end(this.head.map) || 1);
        const strength = SCALES[this.scale].to(Math.min(1, size));
        if (strength > 0.02) span.style.background = `rgb(${r} ${g} ${b} / ${(0.2 + 0.8 * strength).toFixed(2)})`; // weak ones fade into the page
        if (strength > 0.4) span.style.color = 0.3 * r + 0.59 * g + 0.11 * b > 140 ? "#111" : "#fff";
        span.title = `${j}: ${number(value)}`;
        if (j === at.i) span.style.outline = "2px solid currentColor";
      } else span.style.opacity = 0.4;
      list.append(span);
    }
    box.append(list);
  }
}

function niceStep(least) {
  const power = 10 ** Math.floor(Math.log10(Math.max(1, least)));
  return [1, 2, 5, 10].map((m) => m * power).find((m) => m >= least) || 10 * power;
}

function shorten(text, most) {
  const letters = [...text];
  return letters.length > most ? letters.slice(0, most - 1).join("") + "…" : text;
}

function largest(map) {
  const { side } = map.levels[map.levels.length - 1];
  return side === 1 ? "the largest coefficient of one pair" : `the largest cell, a mean over up to ${side} × ${side} pairs,`;
}

function legend(box, map, scale) {
  const canvas = box.querySelector("canvas"), ticks = box.querySelector("div");
  canvas.width = 256; canvas.height = 1;
  const pen = canvas.getContext("2d");
  const values = [];
  for (let x = 0; x < 256; x++) {
    const part = map.signed ? x / 127.5 - 1 : x / 255;
    pen.fillStyle = `rgb(${colourOf(part, map.signed).join(" ")})`;
    pen.fillRect(x, 0, 1, 1);
  }
  for (const part of map.signed ? [-1, -0.5, 0, 0.5, 1] : [0, 0.25, 0.5, 0.75, 1]) values.push(Math.sign(part) * SCALES[scale].from(Math.abs(part)) * (scale === "row" ? 1 : SCALES[scale].end(map)));
  const cut = scale !== "row" && SCALES[scale].end(map) < map.max;
  const mark = (k) => (!cut ? "" : k === values.length - 1 ? "≥ " : k === 0 && map.signed ? "≤ " : "");
  ticks.replaceChildren(...values.map((v, k) => element("span", {}, mark(k) + (map.signed && v > 0 ? "+" : "") + number(v))));
  box.querySelector("p").textContent = scale === "row" ? "parts of the largest |value| of each row" : cut ? `colours end at the 99.5 % quantile; ${largest(map)} is ${number(map.max)}` : "";
}
