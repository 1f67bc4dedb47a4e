// The seek slider moves the playhead, of a clip that is silent too: its next sound starts there.
document.addEventListener("input", (event) => {
  const seek = event.target.closest(".seek"), card = seek?.closest(".card");
  if (!seek) return;
  const active = playing?.ariaPressed === "true" && card.contains(playing);
  const time = Number(seek.value);
  if (active) stop();
  show(card, time);
  if (active) start(playing);
});

// Filter and order. A score that is undefined on a clip is in no range and comes last.
function passes(clip, wanted) {
  const score = clip.scores[wanted.score];
  if (wanted.wrong && !clip.wrong) return false;
  if (wanted.class && !clip.classes.includes(wanted.class)) return false;
  if (wanted.low !== "" && !(score !== null && score >= Number(wanted.low))) return false;
  return wanted.high === "" || (score !== null && score <= Number(wanted.high));
}

function compare(a, b, name, falling) {
  const [x, y] = [a.scores[name], b.scores[name]];
  if (x === null || y === null) return (x === null) - (y === null) || a.index - b.index;
  return (falling ? y - x : x - y) || a.index - b.index;
}

const controls = document.querySelector("#controls");
const list = document.querySelector("#clips");
const clips = [...list.children].map((element, index) => ({
  element, index,
  wrong: element.classList.contains("wrong"),
  classes: JSON.parse(element.dataset.classes),
  scores: JSON.parse(element.dataset.scores),
}));

function update() {
  const wanted = Object.fromEntries(new FormData(controls));
  const shown = clips.filter((clip) => passes(clip, wanted));
  const name = wanted.order;
  shown.sort((a, b) => (name ? compare(a, b, name, wanted.falling) : wanted.falling ? b.index - a.index : a.index - b.index));
  if (playing && list.contains(playing) && !shown.some((clip) => clip.element.contains(playing))) stop();
  for (const clip of clips) clip.element.hidden = !shown.includes(clip);
  list.append(...shown.map((clip) => clip.element));
  document.body.classList.toggle("plain", !wanted.mask);
  document.querySelector("#status").textContent = `${shown.length} of ${clips.length} clips`;
}

if (controls) {
  controls.addEventListener("input", update);
  controls.addEventListener("reset", () => setTimeout(update));
  controls.addEventListener("submit", (event) => event.preventDefault());
  update();
}
