// Wires the page: pictures are drawn when they come into view.
const page = JSON.parse(document.getElementById("pictures").textContent);
const heads = new Map(page.heads.map((head) => [head.id, head]));
const maps = [];

function thumbnail(canvas, head) {
  const { pixels, data } = head.thumb;
  const codes = bytesOf(data), table = colourTable(head.thumb, "root");
  canvas.width = canvas.height = pixels;
  const picture = new ImageData(pixels, pixels), out = new Uint32Array(picture.data.buffer);
  for (let k = 0; k < codes.length; k++) if (!head.causal || k % pixels <= Math.floor(k / pixels)) out[k] = table[codes[k]];
  canvas.getContext("2d").putImageData(picture, 0, 0);
}

function thumbnails() {
  for (const canvas of document.querySelectorAll("canvas[data-thumb]")) thumbnail(canvas, heads.get(canvas.dataset.thumb));
}

function strips() {
  for (const box of document.querySelectorAll("[data-strip]")) box.replaceChildren(stripChart(page.strips[box.dataset.strip], Math.max(320, box.clientWidth || 900)));
}

const CHARTS = {
  spectrum: (head) => spectrumChart(head.spectrum),
  steps: (head, wide) => tokenChart(head.steps, page, wide),
  distance: (head, wide) => tokenChart(head.distance, page, wide),
  horizon: (head, wide) => horizonChart(head.horizon, wide),
};

// a narrow box gets a chart of its own width, so that letters keep their size
function charts(card) {
  if (!card.dataset.open) return;
  for (const box of card.querySelectorAll("[data-chart]")) {
    const wide = Math.max(280, Math.min(440, box.clientWidth || 440));
    if (box.dataset.wide === String(wide)) continue;
    box.dataset.wide = wide;
    box.replaceChildren(CHARTS[box.dataset.chart](heads.get(card.id), wide));
  }
}

function open(card) {
  if (card.dataset.open) return;
  card.dataset.open = "1";
  const head = heads.get(card.id);
  charts(card);
  const map = new HeatMap(card.querySelector("figure.coefficients"), head, page);
  maps.push(map);
  map.started = map.start();
}

const cards = [...document.querySelectorAll(".card")];
const watch = new IntersectionObserver((entries) => {
  for (const entry of entries) if (entry.isIntersecting) { open(entry.target); watch.unobserve(entry.target); }
}, { rootMargin: "500px" });
cards.forEach((card) => watch.observe(card));

const rings = [...document.querySelectorAll("details.rings")].map((panel) => new RingPlayer(panel, page.waves[panel.id]));
const player = (panel) => rings.find((ring) => ring.panel === panel);
const watchRings = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) if (isIntersecting) player(target).open(); else player(target).pause();
}, { rootMargin: "200px" });
rings.forEach((ring) => watchRings.observe(ring.panel));
const explained = page.explain && new PairMaps(document.querySelector(".why"), page.explain);
if (explained) explained.open();
lessMotion.addEventListener("change", () => rings.forEach((ring) => ring.named()));

function redraw() { thumbnails(); maps.forEach((map) => map.draw()); rings.forEach((ring) => ring.draw()); if (explained) explained.draw(); }
let resized = 0, width = window.innerWidth;
window.addEventListener("resize", () => {
  if (window.innerWidth === width) return; // a phone's address bar coming and going
  width = window.innerWidth;
  cancelAnimationFrame(resized);
  resized = requestAnimationFrame(() => { strips(); cards.forEach(charts); maps.forEach((map) => map.draw()); rings.forEach((ring) => { ring.charts(); ring.draw(); }); if (explained) { explained.charts(); explained.draw(); } principleCharts(); });
});
darkScheme.addEventListener("change", redraw);
// a browser prints without waiting, so a short report draws everything while idle; a long one says what is missing
const MOST_AT_ONCE = 48;
function rest() {
  const next = cards.find((card) => !card.dataset.open);
  if (!next) return;
  open(next);
  maps[maps.length - 1].started.then(() => setTimeout(rest, 60));
}
if (cards.length <= MOST_AT_ONCE) setTimeout(rest, 1500);

// layers fold; links into a folded one, and printing, open it
const layers = [...document.querySelectorAll("details.layer")], folds = [...layers, ...rings.map((ring) => ring.panel)];
for (const layer of layers) layer.addEventListener("toggle", () => {
  if (!layer.open) return;
  layer.querySelectorAll(".card").forEach(charts);
  for (const map of maps) if (layer.contains(map.figure)) map.draw();
});
for (const ring of rings) ring.panel.addEventListener("toggle", () => { if (ring.panel.open) { ring.open(); ring.charts(); ring.draw(); } else ring.pause(); });
function reveal(id) {
  const target = id && document.getElementById(id), layer = target && target.closest("details.layer, details.rings");
  if (!layer || layer.open) return;
  layer.open = true;
  target.scrollIntoView();
}
document.addEventListener("click", (event) => {
  const link = event.target.closest("a[href^='#']");
  if (link) reveal(link.getAttribute("href").slice(1));
});
window.addEventListener("hashchange", () => reveal(location.hash.slice(1)));
for (const button of document.querySelectorAll("[data-layers]")) {
  button.hidden = false;
  button.addEventListener("click", () => layers.forEach((layer) => { layer.open = button.dataset.layers === "open"; }));
}
// an edge fades only where something is hidden behind it
function edges(box) {
  const hidden = { left: box.scrollLeft > 1, right: box.scrollLeft + box.clientWidth < box.scrollWidth - 1 };
  box.dataset.edges = Object.keys(hidden).filter((side) => hidden[side]).join(" ");
}
const sized = new ResizeObserver((entries) => entries.forEach((entry) => edges(entry.target)));
for (const box of document.querySelectorAll("[data-edges]")) {
  box.addEventListener("scroll", () => edges(box), { passive: true });
  sized.observe(box);
}
let folded = [];
window.addEventListener("beforeprint", () => {
  printing = true;
  folded = folds.filter((fold) => !fold.open);
  folded.forEach((fold) => { fold.open = true; });
  cards.forEach(open); rings.forEach((ring) => { ring.pause(); ring.open(); }); redraw();
});
window.addEventListener("afterprint", () => { printing = false; folded.forEach((fold) => { fold.open = false; }); redraw(); });
thumbnails();
strips();
principleCharts();
reveal(location.hash.slice(1));
document.documentElement.dataset.ready = "1";
