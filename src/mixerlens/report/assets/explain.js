// Why this answer: what waves do in pairs, beside what happens when both segments are removed, and each by segment.
// One pair is chosen, in both maps at once: by the pointer, or with the arrow keys. Nothing is computed here.
const EXPLAIN_ROWS = [
  ["linear", "linear: by itself"],
  ["interactions", "interactions: a half of each pair"],
  ["effects", "lost when it is removed"],
];

class PairMaps {
  constructor(panel, picture) {
    this.panel = panel; this.picture = picture; this.count = picture.borders.length - 1;
    this.canvases = [...panel.querySelectorAll("canvas[data-pairs]")];
    const known = [...picture.pairs.flat(), ...(picture.synergy || []).flat()].filter((v) => v !== null);
    this.most = Math.max(...known.map(Math.abs)) || 1;
    this.chosen = this.strongest();
    for (const canvas of this.canvases) {
      canvas.addEventListener("pointermove", (event) => this.point(canvas, event));
      canvas.addEventListener("pointerdown", (event) => this.point(canvas, event));
      canvas.addEventListener("keydown", (event) => this.key(event));
    }
    const [low, high] = panel.querySelectorAll(".legend div span:not(:nth-child(2))");
    low.textContent = number(-this.most); high.textContent = `+${number(this.most)}`;
    this.drawn = false;
  }

  strongest() {
    let found = [0, Math.min(1, this.count - 1)], most = -1;
    for (let g = 0; g < this.count; g++) for (let h = g + 1; h < this.count; h++) {
      if (Math.abs(this.picture.pairs[g][h]) > most) { most = Math.abs(this.picture.pairs[g][h]); found = [g, h]; }
    }
    return found;
  }

  point(canvas, event) {
    const { left, top, side } = canvas.frame || {}, box = canvas.getBoundingClientRect();
    if (!side) return;
    const place = (v) => Math.floor((v / side) * this.count);
    const [h, g] = [place(event.clientX - box.left - left), place(event.clientY - box.top - top)];
    if (g >= 0 && h >= 0 && g < this.count && h < this.count) this.choose(g, h);
  }

  key(event) {
    const [g, h] = this.chosen, last = this.count - 1;
    const moves = { ArrowUp: [g - 1, h], ArrowDown: [g + 1, h], ArrowLeft: [g, h - 1], ArrowRight: [g, h + 1], Home: this.strongest() };
    if (!moves[event.key] || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    this.choose(...moves[event.key].map((v) => Math.min(last, Math.max(0, v))));
  }

  steps(g) {
    const [from, to] = [this.picture.borders[g], this.picture.borders[g + 1] - 1];
    return from === to ? `${from}` : `${from}–${to}`;
  }

  choose(g, h) {
    this.chosen = [g, h];
    const { pairs, synergy, rows } = this.picture, removed = synergy ? synergy[g][h] : null;
    const alone = (k) => `${page.unit}s ${this.steps(k)}: linear ${number(rows.linear[k])}` + (rows.effects ? `, lost when removed ${number(rows.effects[k])}` : "");
    this.panel.querySelector(".readout").textContent = g === h
      ? `The wave of ${page.unit}s ${this.steps(g)} with itself: ${number(pairs[g][g])}. ${alone(g)}.`
      : `${page.unit}s ${this.steps(g)} and ${this.steps(h)}: interaction 2 A = ${number(pairs[g][h])}, synergy when removed ` +
        `${removed === null ? "not run" : number(removed)}. Alone, ${alone(g)}; ${alone(h)}.`;
    this.panel.dataset.chosen = `${g},${h}`;
    this.draw();
    for (const svg of this.panel.querySelectorAll("[data-segments] svg")) svg.show(g, h);
  }

  open() {
    this.charts();
    this.choose(...this.chosen);
    this.panel.dataset.ready = "1";
  }

  draw() {
    for (const canvas of this.canvases) if (canvas.clientWidth) this.map(canvas, this.picture[canvas.dataset.pairs]);
  }

  map(canvas, cells) {
    const { pen, wide, high, colour } = clearPen(canvas), left = 34, top = 4, side = Math.min(wide - left - 6, high - top - 34);
    canvas.frame = { left, top, side };
    const edge = (k) => (side * k) / this.count;
    for (let g = 0; g < this.count; g++) for (let h = 0; h < this.count; h++) {
      const value = cells ? cells[g][h] : null, box = [left + edge(h), top + edge(g), edge(1) + 0.4, edge(1) + 0.4];
      if (value === null) { this.hatch(pen, box, colour("--strong-line")); continue; }
      pen.fillStyle = `rgb(${colourOf(Math.sign(value) * Math.sqrt(Math.abs(value) / this.most), true).join(" ")})`;
      pen.fillRect(...box);
    }
    pen.strokeStyle = colour("--strong-line"); pen.strokeRect(left - 0.5, top - 0.5, side + 1, side + 1);
    pen.fillStyle = colour("--soft"); pen.textBaseline = "middle";
    const time = this.picture.borders[this.count];
    const place = (step) => { const g = this.picture.borders.findLastIndex((b) => b <= step); return edge(Math.min(g, this.count)); };
    for (const step of ticksOf({ low: 0, high: time }, 5)) {
      if (!Number.isInteger(step)) continue;
      pen.textAlign = "right"; pen.fillText(step, left - 6, Math.max(top + 6, top + place(step)));
      pen.textAlign = "center"; pen.fillText(step, left + place(step), top + side + 11);
    }
    pen.fillText(page.unit, left + side / 2, top + side + 27);
    const [g, h] = this.chosen;
    pen.strokeStyle = colour("--ink"); pen.lineWidth = 2;
    pen.strokeRect(left + edge(h), top + edge(g), edge(1), edge(1));
    pen.lineWidth = 1;
  }

  hatch(pen, [x, y, wide, high], colour) {
    pen.strokeStyle = colour;
    pen.beginPath(); pen.moveTo(x, y + high); pen.lineTo(x + wide, y); pen.stroke();
  }

  charts(again = false) {
    const box = this.panel.querySelector("[data-segments]"), wide = Math.max(260, Math.min(1180, box.clientWidth || 600));
    if (!again && box.dataset.wide === String(wide)) return;
    box.dataset.wide = wide;
    const rows = EXPLAIN_ROWS.filter(([key]) => this.picture.rows[key]);
    box.replaceChildren(this.inputChart(wide), ...rows.map(([key, title], k) => this.bars(wide, this.picture.rows[key], title, k === rows.length - 1)));
    for (const svg of box.children) svg.show(...this.chosen);
  }

  axes(wide, high, low, top, title, named) {
    const time = this.picture.borders[this.count];
    const svg = plane(wide, high, title, { low: 0, high: time, name: named ? page.unit : "" }, { low, high: top }, { left: 52, top: 18, bottom: named ? 36 : 20 });
    svg.put("text", { x: 52, y: 11, class: "label" }, title);
    const marks = [0, 1].map(() => svg.put("rect", { class: "chosen", y: svg.frame.top, height: svg.frame.bottom - svg.frame.top }));
    marks.forEach((mark) => svg.prepend(mark));
    svg.show = (g, h) => marks.forEach((mark, k) => {
      const at = k ? h : g, [from, to] = [svg.across(this.picture.borders[at]), svg.across(this.picture.borders[at + 1])];
      mark.setAttribute("x", from); mark.setAttribute("width", to - from);
    });
    return svg;
  }

  inputChart(wide) {
    const { step, channels, of } = this.picture.input, all = channels.flat().filter((v) => v !== null);
    const low = Math.min(0, ...all), top = Math.max(...all, low + 1e-9);
    const svg = this.axes(wide, 92, low, top, `the input${of > channels.length ? `, ${channels.length} of ${of} channels` : ""}`, false);
    channels.forEach((values) => svg.line("curve thin", values.map((v, k) => [step[k] + 0.5, v])));
    return svg;
  }

  bars(wide, values, title, named) {
    const low = Math.min(0, ...values), top = Math.max(0, ...values), pad = 0.05 * (top - low || 1);
    const svg = this.axes(wide, named ? 108 : 92, low - pad, top + pad, `${title}, in the logit`, named), zero = svg.up(0);
    for (const sign of [1, -1]) {
      const d = values.map((v, k) => {
        if (!(v * sign > 0)) return "";
        const [from, to] = [svg.across(this.picture.borders[k]), svg.across(this.picture.borders[k + 1])];
        return `M${from.toFixed(1)} ${zero.toFixed(1)}V${svg.up(v).toFixed(1)}H${(to - 0.6).toFixed(1)}V${zero.toFixed(1)}Z`;
      }).join("");
      if (d) svg.put("path", { class: sign > 0 ? "gain" : "loss", d });
    }
    svg.put("path", { class: "axis", d: `M${svg.frame.left} ${zero}H${svg.frame.right}` });
    return svg;
  }
}
