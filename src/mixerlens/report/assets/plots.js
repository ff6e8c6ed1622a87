// Small charts in SVG. They draw numbers that were computed before; nothing is measured here.
const SVG = "http://www.w3.org/2000/svg";

function element(name, attributes = {}, text = null) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  if (text !== null) node.textContent = text;
  return node;
}

function shape(name, attributes = {}, text = null) {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  if (text !== null) node.textContent = text;
  return node;
}

function chart(wide, high, label) {
  const svg = shape("svg", { viewBox: `0 0 ${wide} ${high}`, class: "chart", role: "img", "aria-label": label });
  svg.put = (name, attributes, text = null) => { const node = shape(name, attributes, text); svg.append(node); return node; };
  return svg;
}

const lagTicks = (most) => [0, 1, 3, 10, 30, 100, 300, 1000, 3000, 10000, 30000, 100000].filter((l) => l <= most);

// eigenvalues on the complex plane with the unit circle
function spectrumChart(spectrum) {
  const size = 220, middle = size / 2, reach = spectrum.frame;
  const unit = (middle - 16) / reach;
  const svg = chart(size, size, spectrum.label);
  svg.put("path", { class: "hair", d: `M6 ${middle}H${size - 6}M${middle} 6V${size - 6}` });
  svg.put("circle", { class: "axis", cx: middle, cy: middle, r: unit });
  if (reach > 1.3) svg.put("circle", { class: "hair", cx: middle, cy: middle, r: unit * Math.floor(reach), "stroke-dasharray": "3 4" });
  const dots = spectrum.re.map((x, k) => `M${(middle + unit * x).toFixed(1)} ${(middle - unit * spectrum.im[k]).toFixed(1)}h0`).join("");
  svg.put("path", { class: "dots", d: dots });
  svg.put("text", { x: middle + unit + 3, y: middle + 12 }, "1");
  svg.put("text", { x: middle + 4, y: 12 }, "i");
  svg.put("text", { x: size - 4, y: middle - 5, "text-anchor": "end" }, "Re");
  svg.put("text", { x: middle - 5, y: 12, "text-anchor": "end" }, "Im");
  return svg;
}

// something of each token over the tokens, on a logarithmic axis: a dot a token, a band where there is a range
function tokenChart(series, page, wide = 400) {
  const high = 190, left = 42, right = 8, top = 8, bottom = 36;
  const svg = chart(wide, high, series.label);
  const usable = (v) => v !== null && v > 0;
  const all = [...series.value, ...(series.low || []), ...(series.high || []), ...(series.through || [])].filter(usable).map(Math.log10);
  const floor = all.length ? Math.floor(Math.max(-9, Math.min(...all))) : -1;
  const roof = Math.max(floor + 1, all.length ? Math.ceil(Math.min(9, Math.max(...all))) : 0);
  const x = (t) => left + ((wide - left - right) * t) / Math.max(1, page.time - 1);
  const y = (v) => top + ((high - top - bottom) * (roof - Math.min(roof, Math.max(floor, Math.log10(v))))) / (roof - floor);
  const step = Math.max(1, Math.ceil((roof - floor) / 5));
  for (let e = Math.ceil(floor / step) * step; e <= roof; e += step) {
    svg.put("path", { class: "hair", d: `M${left} ${y(10 ** e)}H${wide - right}` });
    svg.put("text", { x: left - 5, y: y(10 ** e) + 4, "text-anchor": "end" }, Math.abs(e) < 4 ? number(10 ** e) : `1e${e}`.replace("-", "−"));
  }
  const each = Math.max(1, (wide - left - right) / Math.max(1, series.token.length));
  const bars = series.token.map((t, k) => (series.low && usable(series.low[k]) ? `M${x(t).toFixed(1)} ${y(series.low[k]).toFixed(1)}V${y(series.high[k]).toFixed(1)}` : "")).join("");
  if (bars) svg.put("path", { class: "bars", "stroke-width": each.toFixed(2), d: bars });
  for (const v of series.through || []) svg.put("path", { class: "axis", d: `M${left} ${y(v)}H${wide - right}` });
  const dots = svg.put("path", { class: "dots", d: series.token.map((t, k) => (usable(series.value[k]) ? `M${x(t).toFixed(1)} ${y(series.value[k]).toFixed(1)}h0` : "")).join("") });
  dots.style.strokeWidth = "2.8px"; dots.style.strokeOpacity = 0.8;
  const stride = niceStep(page.time / 5);
  for (let t = 0; t < page.time; t += stride) svg.put("text", { x: x(t), y: high - bottom + 15, "text-anchor": "middle" }, t);
  svg.put("text", { x: (left + wide - right) / 2, y: high - 4, "text-anchor": "middle" }, series.axis);
  return svg;
}

// the share of the absolute mass within a lag
function horizonChart(horizon, wide = 440) {
  const high = 236, left = 46, right = 14, top = 12, bottom = 40;
  const svg = chart(wide, high, horizon.label);
  const most = Math.max(1, horizon.lag[horizon.lag.length - 1]);
  const x = (lag) => left + ((wide - left - right) * Math.log1p(lag)) / Math.log1p(most);
  const y = (part) => top + (high - top - bottom) * (1 - part);
  if (horizon.spectral) {
    const at = (v) => (v === null ? wide - right : Math.min(wide - right, x(v)));
    const start = at(horizon.spectral[0]), stop = at(horizon.spectral[2]), mid = at(horizon.spectral[1]);
    svg.put("rect", { class: "band", x: start, y: top, width: Math.max(2, stop - start), height: high - top - bottom });
    svg.put("path", { class: "curve", d: `M${mid} ${high - bottom}v-7`, "stroke-width": 3 });
  }
  for (const part of [0, 0.25, 0.5, 0.75, 1]) {
    svg.put("path", { class: "hair", d: `M${left} ${y(part)}H${wide - right}` });
    svg.put("text", { x: left - 6, y: y(part) + 4, "text-anchor": "end" }, `${part * 100} %`);
  }
  let before = -99;
  for (const lag of lagTicks(most)) {
    if (x(lag) - before < 26) continue;
    before = x(lag);
    svg.put("path", { class: "hair", d: `M${x(lag)} ${top}V${high - bottom}` });
    svg.put("text", { x: x(lag), y: high - bottom + 15, "text-anchor": "middle" }, lag);
  }
  const line = (values) => values.map((v, k) => `${k ? "L" : "M"}${x(horizon.lag[k]).toFixed(1)} ${y(v).toFixed(1)}`).join("");
  if (horizon.uniform) svg.put("path", { class: "reference", d: line(horizon.uniform) });
  svg.put("path", { class: "curve", d: line(horizon.mass) });
  const marks = [[horizon.half, 0.5], [horizon.effective, 0.9]].filter(([lag]) => lag !== null);
  for (const [lag] of marks) {
    const there = y(horizon.mass[horizon.lag.indexOf(lag)]);
    svg.put("path", { class: "mark", d: `M${x(lag)} ${there}V${high - bottom}`, "stroke-dasharray": "2 3" });
    svg.put("circle", { class: "markdot", cx: x(lag), cy: there, r: 4 });
  }
  // labels last, where no line runs: the curve rises, so left of a mark and above it is free, or right of both marks below it
  const room = 112, last = Math.max(...marks.map(([lag]) => x(lag)));
  for (const [lag, part] of marks) {
    const before = x(lag) - left > room, close = last - x(lag) < room;
    const at = before ? x(lag) - 8 : (close ? last : x(lag)) + 9;
    svg.put("text", { class: "marktext", x: at, y: y(part) + (before ? -5 : 15), "text-anchor": before ? "end" : "start" }, `${part * 100} % at lag ${number(lag)}`);
  }
  svg.put("text", { x: (left + wide - right) / 2, y: high - 5, "text-anchor": "middle" }, horizon.axis);
  return svg;
}

// every head of a layer, sorted: a bar from the 50 % lag to the 90 % lag, a dot at the mean distance
function stripChart(strip, wide) {
  const high = 120, left = 46, right = 10, top = 8, bottom = 26;
  const svg = shape("svg", { viewBox: `0 0 ${wide} ${high}`, role: "img", "aria-label": strip.label });
  const most = Math.max(1, ...strip.effective.filter((v) => v !== null), ...strip.mean.filter((v) => v !== null));
  const x = (k) => left + ((wide - left - right) * (k + 0.5)) / strip.heads.length;
  const y = (v) => top + (high - top - bottom) * (1 - Math.log1p(v ?? 0) / Math.log1p(most));
  const put = (name, attributes, text = null) => svg.appendChild(shape(name, attributes, text));
  let before = 999;
  for (const lag of lagTicks(most)) {
    if (before - y(lag) < 14) continue;
    before = y(lag);
    put("path", { class: "hair", d: `M${left} ${y(lag)}H${wide - right}` });
    put("text", { x: left - 6, y: y(lag) + 4, "text-anchor": "end" }, lag);
  }
  const thick = Math.max(1, Math.min(7, (wide - left - right) / strip.heads.length - 0.5));
  put("path", { class: "bars", "stroke-width": thick, d: strip.heads.map((h, k) => `M${x(k).toFixed(1)} ${y(strip.half[k]).toFixed(1)}V${(y(strip.effective[k]) - 1).toFixed(1)}`).join("") });
  const dots = put("path", { class: "dots", d: strip.heads.map((h, k) => `M${x(k).toFixed(1)} ${y(strip.mean[k]).toFixed(1)}h0`).join("") });
  dots.style.strokeWidth = "3px";
  for (const [k, id] of strip.picked) {
    const link = put("a", { href: "#" + id });
    link.append(shape("circle", { class: "picked", cx: x(k), cy: y(strip.mean[k]), r: 4.5 }), shape("title", {}, `head ${strip.heads[k]}`));
    link.setAttribute("aria-label", `head ${strip.heads[k]}`);
  }
  put("text", { x: (left + wide - right) / 2, y: high - 6, "text-anchor": "middle" }, strip.axis);
  return svg;
}
