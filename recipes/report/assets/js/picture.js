// The pictures of the cards: drawn when they come into view, drawn again when something about them changes.
const settings = { show: "mask", dim: 0.85, range: 60, axis: "linear" };
const DRAG = 4; // css pixels: a shorter move is a click
const pictures = new Map(); // element -> { grey, visible, stale }

const viewOf = (picture) => {
  const card = cardOf(picture), seconds = Number(card.dataset.seconds);
  return {
    ...settings, seconds, part: picture.dataset.part, topHz: 1000 * Number(card.dataset.khz),
    start: Number(card.dataset.start ?? 0), end: Number(card.dataset.end ?? seconds),
  };
};

async function load(picture) {
  const state = pictures.get(picture), card = cardOf(picture);
  state.grey ??= Promise.all([card.dataset.levels, picture.dataset.mask, picture.dataset.map].map((uri) => uri && greyOf(uri)))
    .then(([levels, mask, map]) => ({ levels, mask, map }));
  return state.grey;
}

async function draw(picture) {
  const state = pictures.get(picture), canvas = picture.querySelector("canvas");
  const grey = await load(picture), box = picture.getBoundingClientRect(), looks = theme(), view = viewOf(picture);
  const width = Math.round(box.width - MARGIN.left - MARGIN.right), height = Math.round(box.height - MARGIN.top - MARGIN.bottom);
  if (width < 10 || height < 10) return;
  const scale = Math.min(devicePixelRatio || 1, 2);
  canvas.width = Math.round(box.width * scale);
  canvas.height = Math.round(box.height * scale);
  const pen = canvas.getContext("2d");
  const plot = paintPlot(grey, view, Math.round(width * scale), Math.round(height * scale), looks);
  pen.putImageData(plot, Math.round(MARGIN.left * scale), Math.round(MARGIN.top * scale));
  pen.scale(scale, scale);
  paintAxes(pen, view, width, height, looks);
  Object.assign(state, { stale: false, drawn: [view.start, view.end] });
  place(picture);
}

function redraw(picture) {
  const state = pictures.get(picture);
  state.stale = true;
  if (state.visible && !state.asked) {
    state.asked = true;
    requestAnimationFrame(() => { state.asked = false; draw(picture); });
  }
}

// Playhead and selection, in shares of the plot's width.
function place(picture) {
  const card = cardOf(picture), view = viewOf(picture);
  const shareOf = (time) => (time - view.start) / (view.end - view.start);
  const at = shareOf(timeOf(card)), head = picture.querySelector(".playhead"), selection = picture.querySelector(".selection");
  head.hidden = at < 0 || at > 1;
  picture.style.setProperty("--at", at);
  selection.hidden = !card.dataset.from;
  if (selection.hidden) return;
  picture.style.setProperty("--from", Math.max(shareOf(Number(card.dataset.from)), 0));
  picture.style.setProperty("--to", Math.min(shareOf(Number(card.dataset.to)), 1));
}

// Where a pointer is: its time, its height on the frequency axis, and the source pixel below it.
function pointed(picture, event) {
  const box = picture.getBoundingClientRect(), view = viewOf(picture);
  const x = (event.clientX - box.left - MARGIN.left) / (box.width - MARGIN.left - MARGIN.right);
  const y = (event.clientY - box.top - MARGIN.top) / (box.height - MARGIN.top - MARGIN.bottom);
  const time = view.start + Math.min(Math.max(x, 0), 1) * (view.end - view.start);
  return { inside: x >= 0 && x <= 1 && y >= 0 && y <= 1, time, hz: AXES[view.axis].hz(1 - y, view.topHz), view };
}

async function read(picture, event) {
  const { inside, time, hz, view } = pointed(picture, event), readout = picture.parentElement.querySelector(".readout");
  if (!inside) return (readout.textContent = "");
  const grey = await load(picture);
  const valueOf = ({ data, width, height }) => {
    const x = Math.min(Math.floor((width * time) / view.seconds), width - 1);
    const y = Math.min(Math.floor(height * (1 - hz / view.topHz)), height - 1);
    return data[Math.max(y, 0) * width + x] / 255;
  };
  const level = Math.round(PICTURE_RANGE_DB * (valueOf(grey.levels) - 1));
  const map = grey.map ? `, importance ${valueOf(grey.map).toFixed(2)}` : "";
  const text = `${time.toFixed(2)} s, ${(hz / 1000).toFixed(2)} kHz, ${level < 0 ? "−" : ""}${-level} dB, mask ${valueOf(grey.mask).toFixed(2)}`;
  return (readout.textContent = text + map);
}

function select(card, from, to) {
  if (from === null) {
    delete card.dataset.from;
    delete card.dataset.to;
  } else Object.assign(card.dataset, { from: Math.min(from, to), to: Math.max(from, to) });
  card.querySelectorAll(".picture").forEach(place);
}

function zoom(card, start, end) {
  const seconds = Number(card.dataset.seconds), width = Math.min(Math.max(end - start, 0.05), seconds);
  const first = Math.min(Math.max(start, 0), seconds - width);
  Object.assign(card.dataset, { start: first, end: first + width });
  card.querySelectorAll(".picture").forEach(redraw);
}

function zoomBy(card, inwards) {
  const start = Number(card.dataset.start ?? 0), end = Number(card.dataset.end ?? card.dataset.seconds);
  if (inwards && card.dataset.from) return zoom(card, Number(card.dataset.from), Number(card.dataset.to));
  const width = (end - start) * (inwards ? 0.5 : 2), at = timeOf(card);
  const middle = at >= start && at <= end ? at : (start + end) / 2;
  return zoom(card, middle - width / 2, middle + width / 2);
}

let drag = null;
document.addEventListener("pointerdown", (event) => {
  const picture = event.target.closest(".picture");
  if (!picture || event.button !== 0) return;
  drag = { picture, x: event.clientX, from: pointed(picture, event).time, moved: false };
});
document.addEventListener("pointermove", (event) => {
  const picture = event.target.closest?.(".picture");
  if (picture) read(picture, event);
  if (!drag || (Math.abs(event.clientX - drag.x) < DRAG && !drag.moved)) return;
  drag.moved = true;
  select(cardOf(drag.picture), drag.from, pointed(drag.picture, event).time);
});
document.addEventListener("pointerup", (event) => {
  if (!drag) return;
  const { picture, moved, from } = drag, card = cardOf(picture);
  drag = null;
  if (!moved) select(card, null);
  seekTo(card, moved ? Number(card.dataset.from) : pointed(picture, event).time ?? from);
});
document.addEventListener("pointercancel", () => { drag = null; });
document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-zoom], [data-loop], [data-seek], [data-download]");
  const card = button && cardOf(button);
  if (!button) return;
  if (button.dataset.zoom) zoomBy(card, button.dataset.zoom === "in");
  if (button.dataset.seek) seekTo(card, Number(button.dataset.seek));
  if ("loop" in button.dataset) {
    button.ariaPressed = button.ariaPressed === "true" ? "false" : "true";
    if (!card.dataset.from) select(card, 0, Number(card.dataset.seconds));
    seekTo(card, timeOf(card));
  }
});
document.addEventListener("input", (event) => {
  if (event.target.matches(".seek")) seekTo(cardOf(event.target), Number(event.target.value));
});

// Which part a card's pictures show: that of the sound that was started last.
function showPart(card, button) {
  const view = button.closest(".view");
  for (const picture of card.querySelectorAll(".picture")) {
    const shared = button.dataset.part === "input" || view.contains(picture);
    const part = shared ? button.dataset.part : "relevant";
    if (picture.dataset.part === part) continue;
    picture.dataset.part = part;
    redraw(picture);
  }
}

function linkDownloads(details) {
  const holder = details.querySelector("[data-downloads]"), card = cardOf(details);
  if (holder.childElementCount) return;
  const buttons = [...card.querySelectorAll(".view:first-of-type [data-part=input][data-sound]"), ...details.closest(".view").querySelectorAll("[data-sound]:not([data-part=input])")];
  for (const button of buttons) {
    const link = document.createElement("a"), ending = /^data:audio.mpeg/.test(button.dataset.sound) ? "mp3" : "flac";
    link.href = button.dataset.sound;
    link.download = `${card.dataset.clip} ${button.textContent.trim()}.${ending}`.replace(/[^\w. -]/g, "_");
    link.textContent = button.textContent.trim();
    holder.append(link, " ");
  }
}

const watcher = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    const state = pictures.get(entry.target);
    state.visible = entry.isIntersecting;
    if (state.visible && state.stale) redraw(entry.target);
  }
}, { rootMargin: "300px" });
const sizes = new ResizeObserver((entries) => entries.forEach((entry) => redraw(entry.target)));

function adopt(card) {
  for (const picture of card.querySelectorAll(".picture")) {
    pictures.set(picture, { stale: true, visible: false });
    watcher.observe(picture);
    sizes.observe(picture);
  }
  card.addEventListener("place", () => card.querySelectorAll(".picture").forEach(place));
  card.addEventListener("part", (event) => showPart(card, event.detail));
  card.addEventListener("toggle", (event) => { if (event.target.open) linkDownloads(event.target); }, true);
  card.querySelector("[data-choose-view]")?.addEventListener("change", (event) => {
    if (playing && card.contains(playing)) stop();
    card.querySelectorAll(".view").forEach((view) => { view.hidden = view.dataset.view !== event.target.value; });
  });
}
document.querySelectorAll(".card").forEach(adopt);

// A printer waits for nothing: what was never in sight is drawn too, one picture after another, unless there are many.
const PRINTED_PICTURES = 120;
async function drawNext(waiting) {
  const picture = waiting.shift();
  if (!picture) return;
  if (!pictures.get(picture).grey) await draw(picture);
  setTimeout(drawNext, 10, waiting);
}
if (pictures.size <= PRINTED_PICTURES) drawNext([...pictures.keys()]);

const redrawAll = () => pictures.forEach((state, picture) => redraw(picture));
[DARK, PRINT].forEach((query) => query.addEventListener("change", () => {
  if (PRINT.matches) pictures.forEach((state, picture) => { if (state.grey) draw(picture); });
  else redrawAll();
}));
document.querySelector("#settings")?.addEventListener("input", (event) => {
  const values = Object.fromEntries(new FormData(event.currentTarget));
  player.matched = Boolean(values.matched);
  Object.assign(settings, { show: values.show, axis: values.axis, dim: Number(values.dim), range: Number(values.range) });
  document.querySelector("[data-of=range]").textContent = `${values.range} dB`;
  redrawAll();
});
document.querySelector("#settings")?.addEventListener("submit", (event) => event.preventDefault());
