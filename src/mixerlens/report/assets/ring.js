// A pulse on a ring of nodes, and the same modes in a random order, on one clock. Everything drawn was computed before.
const LAP_MOMENTS = 64, A_SECOND = 16; // moments of a lap; moments a second at speed 1
const LEFT = 1e-6; // below this part of the pulse nothing is drawn
const lessMotion = window.matchMedia("(prefers-reduced-motion: reduce)");

// axes with ticks, and where numbers lie on them
function plane(wide, high, label, x, y, margin = {}) {
  const { left = 42, right = 12, top = 10, bottom = 38 } = margin;
  const svg = chart(wide, high, label);
  svg.across = (v) => left + ((wide - left - right) * (v - x.low)) / (x.high - x.low || 1);
  svg.up = (v) => top + ((high - top - bottom) * (y.high - v)) / (y.high - y.low || 1);
  svg.frame = { left, right: wide - right, top, bottom: high - bottom };
  svg.line = (name, points) => svg.put("path", { class: name, d: points.map(([a, b], k) => `${k && b !== null && points[k - 1][1] !== null ? "L" : "M"}${svg.across(a).toFixed(1)} ${svg.up(b ?? y.low).toFixed(1)}`).join("") });
  for (const v of ticksOf(y, 5)) {
    svg.put("path", { class: "hair", d: `M${left} ${svg.up(v)}H${wide - right}` });
    svg.put("text", { x: left - 6, y: svg.up(v) + 4, "text-anchor": "end" }, number(v));
  }
  for (const v of ticksOf(x, wide < 300 ? 4 : 6)) svg.put("text", { x: svg.across(v), y: high - bottom + 15, "text-anchor": "middle" }, number(v));
  svg.put("text", { x: (left + wide - right) / 2, y: high - 5, "text-anchor": "middle" }, x.name);
  return svg;
}

function ticksOf(axis, most) {
  const step = tickStep((axis.high - axis.low) / most), found = [];
  for (let k = Math.ceil(axis.low / step - 1e-9); k * step <= axis.high + 1e-9 * step; k++) found.push(Number((k * step).toPrecision(12)));
  return found;
}

function tickStep(least) {
  const power = 10 ** Math.floor(Math.log10(least || 1));
  return [1, 2, 2.5, 5, 10].map((m) => m * power).find((m) => m >= least * (1 - 1e-9));
}

// mode n around the ring and its frequency, with the band that sampling can tell apart
function lapSpectrum(head, wide) {
  const { frequency, line, axis, label } = head.spectrum, lap = head.lap;
  const all = [...frequency, ...(line || [])], most = Math.max(...frequency), least = Math.min(...frequency);
  const oneSided = (here, there) => here > 0 && -there < 0.15 * here; // then the other half of the band stays out of the picture
  const low = Math.min(...all, oneSided(most, least) ? 0 : -Math.PI), high = Math.max(...all, oneSided(-least, -most) ? 0 : Math.PI);
  const y = { low: low - 0.04 * (high - low), high: high + 0.04 * (high - low) };
  const svg = plane(wide, 220, label, { low: -0.5, high: frequency.length - 0.5, name: "mode around the ring" }, y, { top: 20, right: lap === null ? 12 : 40 });
  svg.put("text", { x: 2, y: 10 }, axis);
  const { left, right, top, bottom } = svg.frame;
  const [from, to] = [Math.PI, -Math.PI].map((v) => Math.min(bottom, Math.max(top, svg.up(v))));
  svg.prepend(svg.put("rect", { class: "band", x: left, y: from, width: right - left, height: to - from }));
  for (const [v, text] of [[Math.PI, "π"], [-Math.PI, "−π"]]) {
    if (v < y.low || v > y.high) continue;
    svg.put("path", { class: "axis", d: `M${left} ${svg.up(v)}H${right}`, "stroke-dasharray": "2 3" });
    svg.put("text", { x: left + 4, y: svg.up(v) + (v > 0 ? 13 : -5) }, text);
  }
  if (lap !== null) {
    const turns = (v) => (v * lap) / (2 * Math.PI);
    for (const t of ticksOf({ low: turns(y.low), high: turns(y.high) }, 5)) {
      const at = svg.up((t * 2 * Math.PI) / lap);
      svg.put("path", { class: "axis", d: `M${right} ${at}h4` });
      svg.put("text", { x: right + 6, y: at + 4 }, number(t));
    }
    svg.put("text", { x: right + 38, y: 10, "text-anchor": "end" }, "turns a lap");
  }
  svg.put("path", { class: "dots", d: frequency.map((v, k) => `M${svg.across(k).toFixed(1)} ${svg.up(v).toFixed(1)}h0`).join("") });
  // over the dots, which would hide it where frequencies are equally spaced
  if (lap !== null) svg.line("reference over", line.map((v, k) => [k * (frequency.length - 1), v]));
  return svg;
}

function timeAxis(head) {
  const last = head.tokens.length - 1;
  return head.lap === null
    ? { low: 0, high: Math.max(1, head.tokens[last]), name: `${page.unit}s`, at: (k) => head.tokens[k], moment: (v) => head.tokens.findIndex((t) => t >= v) }
    : { low: 0, high: last / LAP_MOMENTS, name: "laps", at: (k) => k / LAP_MOMENTS, moment: (v) => Math.round(v * LAP_MOMENTS) };
}

function carriersChart(head, wide) {
  const { wave, null: random, label } = head.carriers, time = timeAxis(head);
  const most = Math.max(1, ...wave, ...random);
  const svg = plane(wide, 220, label, { ...time, name: `time, ${time.name}` }, { low: 0, high: 1.08 * most });
  svg.line("reference null", random.map((v, k) => [time.at(k), v]));
  svg.line("curve", wave.map((v, k) => [time.at(k), v]));
  const cursor = svg.put("path", { class: "cursor" });
  svg.show = (k) => cursor.setAttribute("d", `M${svg.across(time.at(k)).toFixed(1)} ${svg.frame.top}V${svg.frame.bottom}`);
  return svg;
}

function memoryChart(head, wide) {
  const { lag, linear, at_node: atNode, axis, label } = head.memory;
  const svg = plane(wide, 220, label, { low: 0, high: lag[lag.length - 1], name: axis }, { low: 0, high: 1 });
  svg.line("reference null", atNode.map((v, k) => [lag[k], v]));
  svg.line("curve", linear.map((v, k) => [lag[k], v]));
  return svg;
}

const RING_CHARTS = { spectrum: lapSpectrum, carriers: carriersChart, memory: memoryChart };

// a canvas at the screen's own resolution, wiped, with the page's type and colours
function clearPen(canvas) {
  const ratio = Math.min(2, window.devicePixelRatio || 1), wide = canvas.clientWidth, high = canvas.clientHeight;
  if (canvas.width !== Math.round(wide * ratio)) { canvas.width = Math.round(wide * ratio); canvas.height = Math.round(high * ratio); }
  const pen = canvas.getContext("2d"), ink = getComputedStyle(document.body);
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.clearRect(0, 0, wide, high);
  pen.font = "11px " + ink.getPropertyValue("--sans");
  return { pen, wide, high, colour: (name) => ink.getPropertyValue(name) };
}

class RingPlayer {
  constructor(panel, heads) {
    this.panel = panel; this.heads = heads; this.playing = false;
    this.slider = panel.querySelector("input[type=range]");
    this.button = panel.querySelector("[data-do=play]");
    this.speed = panel.querySelector("select[data-speed]");
    this.canvases = [...panel.querySelectorAll("canvas[data-ring], canvas[data-space]")];
    this.moment = Number(this.slider.value);
    this.slider.addEventListener("input", () => { this.pause(); this.go(Number(this.slider.value)); });
    this.button.addEventListener("click", () => { if (lessMotion.matches) this.go(this.moment + 4); else if (this.playing) this.pause(); else this.play(); });
    this.speed.addEventListener("change", () => this.wind());
    const chooser = panel.querySelector("select[data-heads]");
    this.place = chooser ? Number(chooser.value) : 0;
    if (chooser) chooser.addEventListener("change", () => this.choose(Number(chooser.value)));
    for (const canvas of panel.querySelectorAll("canvas[data-space]")) {
      const scrub = (event) => { if (event.buttons === 1) { this.pause(); this.seek(canvas, event); } };
      canvas.addEventListener("pointerdown", (event) => { canvas.setPointerCapture(event.pointerId); scrub(event); });
      canvas.addEventListener("pointermove", scrub);
    }
    this.named();
  }

  get head() { return this.heads[this.place]; }

  // under reduced motion nothing runs by itself: the button goes on by a step
  named() {
    if (lessMotion.matches) this.pause();
    this.button.textContent = lessMotion.matches ? "step" : this.playing ? "pause" : "play";
    this.panel.querySelector(".still").hidden = !lessMotion.matches;
    this.speed.closest("label").hidden = lessMotion.matches;
  }

  open() {
    if (this.opened) return;
    this.opened = true;
    this.choose(this.place);
  }

  choose(place) {
    this.place = place;
    for (const box of this.panel.querySelectorAll("[data-head]")) box.hidden = Number(box.dataset.head) !== place;
    const decoded = (picture) => ({ ...picture, codes: bytesOf(picture.data), image: null });
    this.pictures = { wave: decoded(this.head.wave), null: decoded(this.head.null) };
    this.slider.max = this.head.tokens.length - 1;
    this.charts(true);
    this.go(Math.min(this.moment, this.head.tokens.length - 1));
  }

  charts(again = false) {
    if (!this.opened) return;
    for (const box of this.panel.querySelectorAll("[data-rings]")) {
      const wide = Math.max(260, Math.min(760, box.clientWidth || 360));
      if (!again && box.dataset.wide === String(wide)) continue;
      box.dataset.wide = wide;
      box.hidden = !this.head[box.dataset.rings];
      box.replaceChildren(...(this.head[box.dataset.rings] ? [RING_CHARTS[box.dataset.rings](this.head, wide)] : []));
    }
  }

  play() { this.playing = true; this.named(); this.wind(); requestAnimationFrame((now) => this.tick(now)); }
  pause() { if (this.playing) { this.playing = false; this.named(); } }
  wind() { this.since = null; }

  tick(now) {
    if (!this.playing) return;
    if (this.since === null) { this.since = now; this.from = this.moment; }
    const wanted = this.from + Math.floor(((now - this.since) / 1000) * A_SECOND * Number(this.speed.value));
    if (wanted !== this.from && wanted % this.heads[this.place].tokens.length !== this.moment) this.go(wanted);
    requestAnimationFrame((next) => this.tick(next));
  }

  seek(canvas, event) {
    const { left, size } = canvas.frame, time = timeAxis(this.head);
    const part = Math.min(1, Math.max(0, (event.clientX - canvas.getBoundingClientRect().left - left) / size));
    this.go(Math.max(0, time.moment(part * time.high)));
  }

  // after the last moment the pulse sets out again
  go(moment) {
    this.moment = moment % this.head.tokens.length;
    this.slider.value = this.moment;
    this.panel.dataset.moment = this.moment;
    this.draw();
    const { lap, tokens, carriers } = this.head, token = tokens[this.moment];
    const when = `${lap === null ? "" : `${(this.moment / LAP_MOMENTS).toFixed(2)} laps, `}${page.unit} ${token}`;
    this.slider.setAttribute("aria-valuetext", when);
    this.panel.querySelector(".moment").textContent =
      `${when}: ${number(carriers.wave[this.moment])} of ${this.head.nodes} nodes carry the pulse, ${number(carriers.null[this.moment])} ${carriers.random}.`;
  }

  draw() {
    if (!this.opened) return;
    for (const canvas of this.canvases) {
      if (!canvas.clientWidth) continue;
      const picture = this.pictures[canvas.dataset.ring || canvas.dataset.space];
      if (canvas.dataset.ring) this.ring(canvas, picture); else this.space(canvas, picture);
    }
    const svg = this.panel.querySelector("[data-rings=carriers] svg");
    if (svg) svg.show(this.moment);
    this.panel.dataset.ready = "1";
  }

  // node 0 on top, the others clockwise; area by |z|, colour by the share of the largest node
  ring(canvas, { codes, peak }) {
    const { pen, wide, high, colour } = clearPen(canvas), nodes = this.head.nodes, x = wide / 2, y = high / 2;
    const radius = Math.min(x, y) - 26, room = Math.min(13, Math.max(4, (0.95 * Math.PI * radius) / nodes));
    const at = (j, r) => [x + r * Math.sin((2 * Math.PI * j) / nodes), y - r * Math.cos((2 * Math.PI * j) / nodes)];
    pen.strokeStyle = colour("--line");
    pen.beginPath(); pen.arc(x, y, radius, 0, 2 * Math.PI); pen.stroke();
    pen.fillStyle = colour("--soft"); pen.textAlign = "center"; pen.textBaseline = "middle";
    for (const j of new Set([0, 1, 2, 3].map((part) => Math.round((part * nodes) / 4) % nodes))) pen.fillText(j || "start 0", ...at(j, radius + 19));
    const row = this.moment * nodes, size = peak[this.moment] / (peak[0] || 1);
    pen.strokeStyle = colour("--strong-line");
    const order = Array.from({ length: nodes }, (_, j) => j).sort((a, b) => codes[row + a] - codes[row + b]);
    for (const j of order) {
      const share = size > LEFT ? codes[row + j] / 255 : 0;
      pen.fillStyle = `rgb(${colourOf(share, false).join(" ")})`;
      pen.beginPath(); pen.arc(...at(j, radius), Math.max(1.6, room * Math.sqrt(share * size)), 0, 2 * Math.PI);
      pen.fill(); pen.stroke();
    }
    pen.fillStyle = colour("--ink"); pen.font = "600 15px " + colour("--sans");
    pen.fillText(this.head.lap === null ? `${page.unit} ${this.head.tokens[this.moment]}` : `${(this.moment / LAP_MOMENTS).toFixed(2)} laps`, x, y);
  }

  // time to the right, nodes upwards; columns of moments at which less than a millionth is left stay empty
  space(canvas, picture) {
    const { pen, wide, high, colour } = clearPen(canvas), time = timeAxis(this.head), nodes = this.head.nodes;
    const left = 34, top = 6, size = wide - left - 8, tall = high - top - 36, moments = picture.peak.length;
    canvas.frame = { left, size };
    picture.image = picture.image || spaceTime(picture, nodes);
    pen.imageSmoothingEnabled = false;
    pen.drawImage(picture.image, left, top, size, tall);
    pen.strokeStyle = colour("--strong-line");
    pen.strokeRect(left - 0.5, top - 0.5, size + 1, tall + 1);
    pen.fillStyle = colour("--soft"); pen.textBaseline = "middle";
    pen.textAlign = "right";
    for (const j of ticksOf({ low: 0, high: nodes - 1 }, 4)) if (Number.isInteger(j)) pen.fillText(j, left - 6, top + (tall * (nodes - 0.5 - j)) / nodes);
    pen.textAlign = "center";
    const last = Math.max(1, moments - 1), x = (k) => left + (size * (k + 0.5)) / moments;
    for (const v of ticksOf(time, size < 180 ? 2 : 4)) pen.fillText(number(v), Math.min(x((v / time.high) * last), wide - 10), top + tall + 11);
    pen.fillText(`time, ${time.name}`, left + size / 2, top + tall + 28);
    pen.save(); pen.translate(7, top + tall / 2); pen.rotate(-Math.PI / 2); pen.fillText("node", 0, 0); pen.restore();
    pen.strokeStyle = colour("--mark"); pen.lineWidth = 2;
    pen.beginPath(); pen.moveTo(x(this.moment), top); pen.lineTo(x(this.moment), top + tall); pen.stroke();
    pen.lineWidth = 1;
  }
}

function spaceTime({ codes, peak }, nodes) {
  const canvas = element("canvas", { width: peak.length, height: nodes }), picture = new ImageData(peak.length, nodes);
  const table = Array.from({ length: 256 }, (_, code) => colourOf(code / 255, false));
  for (let k = 0; k < peak.length; k++) {
    if (!(peak[k] > LEFT * peak[0])) continue;
    for (let j = 0; j < nodes; j++) picture.data.set([...table[codes[k * nodes + j]], 255], 4 * ((nodes - 1 - j) * peak.length + k));
  }
  canvas.getContext("2d").putImageData(picture, 0, 0);
  return canvas;
}
