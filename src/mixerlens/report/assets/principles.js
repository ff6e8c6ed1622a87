// Figures of the principles: a line a layer over a length, or a column a layer with a mark a head. Nothing is computed.
const MARK_SHAPES = [
  (x, y, r) => `M${x - r} ${y}a${r} ${r} 0 1 0 ${2 * r} 0a${r} ${r} 0 1 0 ${-2 * r} 0Z`,
  (x, y, r) => `M${x - r} ${y - r}h${2 * r}v${2 * r}h${-2 * r}Z`,
  (x, y, r) => `M${x} ${y - 1.2 * r}L${x + 1.2 * r} ${y + r}H${x - 1.2 * r}Z`,
  (x, y, r) => `M${x} ${y - 1.4 * r}L${x + 1.4 * r} ${y}L${x} ${y + 1.4 * r}L${x - 1.4 * r} ${y}Z`,
  (x, y, r) => `M${x} ${y + 1.2 * r}L${x + 1.2 * r} ${y - r}H${x - 1.2 * r}Z`,
];

// how numbers lie on an axis: from 0 to 1 between the least and the most of them
function axisOf({ name, log, from_zero: fromZero, whole }, values, places = null) {
  const shown = values.filter((v) => v !== null && Number.isFinite(v) && (!log || fromZero || v > 0));
  let low = whole ? whole[0] : Math.min(...shown), high = whole ? whole[1] : Math.max(...shown);
  if (!shown.length && !whole) [low, high] = [0.1, 1];
  if (log && !fromZero && high / low > 1e9) low = high / 1e9; // below that a figure shows nothing
  if (!log && !whole) low = Math.min(0, low);
  if (high === low) high = log ? 2 * low + (low === 0) : low + 1;
  const bend = log ? (fromZero ? (v) => Math.log10(1 + v) : Math.log10) : (v) => v;
  const [from, to] = [bend(low), bend(high)];
  const at = (v) => (v === null || (log && !fromZero && v <= 0) ? null : Math.max(0, (bend(v) - from) / (to - from)));
  let ticks;
  if (places && places.length <= 12) ticks = places; // few points: each has its tick
  else if (!log) ticks = ticksOf({ low, high }, 5);
  else if (fromZero) ticks = lagTicks(high);
  else {
    const decades = Math.ceil(to) - Math.floor(from), steps = decades > 3 ? [1] : decades > 1 ? [1, 3] : [1, 2, 5];
    const every = Math.max(1, Math.ceil(decades / 6));
    ticks = [];
    for (let e = Math.floor(from / every) * every; e <= to; e += every) for (const s of steps) ticks.push(Number((s * 10 ** e).toPrecision(12)));
    ticks = ticks.filter((v) => v >= low * 0.999 && v <= high * 1.001);
    if (ticks.length < 2) ticks = [low, high].map((v) => Number(v.toPrecision(2)));
  }
  return { name, at, ticks };
}

function principleFrame(wide, high, label, x, y, margin) {
  const { left, right, top, bottom } = margin, svg = chart(wide, high, label);
  svg.across = (v) => { const p = x.at(v); return p === null ? null : left + (wide - left - right) * p; };
  svg.up = (v) => { const p = y.at(v); return p === null ? null : high - bottom - (high - top - bottom) * p; };
  for (const v of y.ticks) {
    svg.put("path", { class: "hair", d: `M${left} ${svg.up(v)}H${wide - right}` });
    svg.put("text", { x: left - 6, y: svg.up(v) + 4, "text-anchor": "end" }, number(v));
  }
  let before = -99;
  for (const v of x.ticks) {
    if (svg.across(v) - before < 30) continue;
    before = svg.across(v);
    svg.put("path", { class: "axis", d: `M${before} ${high - bottom}v4` });
    svg.put("text", { x: before, y: high - bottom + 16, "text-anchor": "middle" }, number(v));
  }
  svg.put("text", { x: (left + wide - right) / 2, y: high - 4, "text-anchor": "middle" }, x.name);
  svg.put("text", { x: 2, y: 11 }, y.name);
  return svg;
}

function principleLines(spec, wide) {
  const high = 250, margin = { left: 48, right: 46, top: 24, bottom: 40 }, { lines, reference } = spec;
  const beside = reference ? reference : [null, [], []];
  const places = [...new Set(lines.flatMap((line) => line.x))].sort((a, b) => a - b), few = places.length <= 12;
  const x = axisOf(spec.across, places, places);
  const y = axisOf(spec.up, [...lines.flatMap((line) => [...line.low, ...line.high]), ...beside[2]]);
  const svg = principleFrame(wide, high, `${spec.title}; ${spec.up.name} over ${spec.across.name}.`, x, y, margin);
  const path = (xs, values) => {
    let pen = false;
    return xs.map((v, k) => { const h = svg.up(values[k]); const d = h === null ? "" : `${pen ? "L" : "M"}${svg.across(v).toFixed(1)} ${h.toFixed(1)}`; pen = h !== null; return d; }).join("");
  };
  for (const line of lines) {
    const there = line.x.map((_, k) => k).filter((k) => svg.up(line.low[k]) !== null && svg.up(line.high[k]) !== null);
    if (there.length < 2) continue;
    const edge = (k, values) => `${svg.across(line.x[k]).toFixed(1)} ${svg.up(values[k]).toFixed(1)}`;
    svg.put("path", { class: `span ${line.kind}`, d: `M${there.map((k) => edge(k, line.high)).join("L")}L${there.reverse().map((k) => edge(k, line.low)).join("L")}Z` });
  }
  if (reference) svg.put("path", { class: "dotted", d: path(beside[1], beside[2]) });
  const ends = [];
  for (const line of lines) {
    svg.put("path", { class: `layer-line ${line.kind}`, d: path(line.x, line.middle) }).append(shape("title", {}, `layer ${line.layer}, ${line.kind}`));
    const known = line.x.map((_, k) => k).filter((k) => svg.up(line.middle[k]) !== null), last = known[known.length - 1];
    if (few || known.length === 1) for (const k of known) svg.put("circle", { class: `layer-point ${line.kind}`, cx: svg.across(line.x[k]).toFixed(1), cy: svg.up(line.middle[k]).toFixed(1), r: 2.2 });
    if (last !== undefined) ends.push({ x: svg.across(line.x[last]), y: svg.up(line.middle[last]), layer: line.layer, kind: line.kind });
  }
  // names at the ends, apart from each other; of many layers those that have room
  ends.sort((a, b) => a.y - b.y);
  let below = -99;
  const most = Math.floor((high - margin.top - margin.bottom) / 12), stride = Math.ceil(ends.length / most);
  ends.filter((_, k) => k % stride === 0).forEach((end, k, kept) => {
    const room = high - margin.bottom + 6 - 12 * (kept.length - 1 - k);
    below = Math.max(below + 12, Math.min(end.y + 4, room));
    svg.put("text", { class: `name ${end.kind}`, x: wide - margin.right + 6, y: below }, `layer ${end.layer}`);
  });
  return svg;
}

function principleDots(spec, wide) {
  const { columns, groups } = spec, rows = Math.ceil(groups.length / 2);
  const high = 226 + 15 * rows, margin = { left: 48, right: 10, top: 28 + 15 * rows, bottom: 40 };
  const y = axisOf(spec.up, columns.flatMap(([, , values]) => values.flat()));
  const x = { name: "layer", ticks: [], at: (k) => (k + 0.5) / columns.length };
  const svg = principleFrame(wide, high, `${spec.title}; ${spec.up.name}, a column a layer.`, x, y, margin);
  const each = (wide - margin.left - margin.right) / columns.length, size = Math.max(1.6, Math.min(4, (0.3 * each) / groups.length));
  const stride = Math.ceil(26 / each);
  columns.forEach(([layer, kind, values], k) => {
    if (k % stride === 0) svg.put("text", { x: svg.across(k), y: high - margin.bottom + 16, "text-anchor": "middle" }, layer);
    if (k) svg.put("path", { class: "hair", d: `M${svg.across(k) - each / 2} ${margin.top}V${high - margin.bottom}` });
    values.forEach((heads, g) => {
      const place = svg.across(k) + ((0.84 * each) / groups.length) * (g - (groups.length - 1) / 2);
      const d = heads.map((v) => MARK_SHAPES[g](Number(place.toFixed(1)), Number(svg.up(v).toFixed(1)), size)).join("");
      if (d) svg.put("path", { class: `head-mark ${kind}`, d }).append(shape("title", {}, `layer ${layer}, ${kind}: ${groups[g]}`));
    });
  });
  groups.forEach((group, g) => {
    const left = 56 + (g % 2) * ((wide - 56) / 2), down = 26 + 15 * Math.floor(g / 2);
    svg.put("path", { class: "head-mark", d: MARK_SHAPES[g](left, down - 4, 4) });
    svg.put("text", { x: left + 9, y: down }, group);
  });
  return svg;
}

function principleCharts() {
  for (const box of document.querySelectorAll("[data-principle]")) {
    const wide = Math.max(280, Math.min(760, box.clientWidth || 400)), spec = page.principles[box.dataset.principle];
    if (box.dataset.wide === String(wide)) continue;
    box.dataset.wide = wide;
    box.replaceChildren((spec.kind === "Lines" ? principleLines : principleDots)(spec, wide));
  }
}
