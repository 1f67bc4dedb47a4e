// Which clips are shown, in the cards and in the table, and the address that says so: a link to the page keeps both.
// A score that is undefined on a clip is in no range and comes last.
const controls = document.querySelector("#controls"), list = document.querySelector("#cards");
const cards = new Map([...list.children].map((card) => [card.dataset.clip, card]));

function passes(row, wanted) {
  const score = row.values[wanted.score] ?? null;
  if (wanted.wrong && !row.wrong) return false;
  if (wanted.class && row.label !== wanted.class && row.prediction !== wanted.class) return false;
  if (wanted.verdict && !row.verdicts.includes(wanted.verdict)) return false;
  if (wanted.true && row.label !== wanted.true) return false;
  if (wanted.predicted && row.prediction !== wanted.predicted) return false;
  if (wanted.low && !(score !== null && score >= Number(wanted.low))) return false;
  return !wanted.high || (score !== null && score <= Number(wanted.high));
}

function byScore(name, falling) {
  return (a, b) => {
    const [x, y] = [a.values[name] ?? null, b.values[name] ?? null];
    if (x === null || y === null) return (x === null) - (y === null) || a.index - b.index;
    return (falling ? y - x : x - y) || a.index - b.index;
  };
}

const wantedNow = () => Object.fromEntries([...new FormData(controls)].filter(([, value]) => value !== ""));

function update() {
  const wanted = wantedNow(), rows = content.rows.filter((row) => passes(row, wanted));
  if (wanted.order) rows.sort(byScore(wanted.order, wanted.falling));
  else if (wanted.falling) rows.reverse();
  showTable(rows, wanted.order, Boolean(wanted.falling));
  const shown = rows.map((row) => cards.get(row.id)).filter(Boolean);
  // as chosen: the cards' own order, which is not that of the table
  if (!wanted.order && !wanted.falling) shown.sort((a, b) => a.dataset.index - b.dataset.index);
  if (playing && list.contains(playing) && !shown.includes(cardOf(playing))) stop();
  for (const card of cards.values()) card.hidden = !shown.includes(card);
  // moving a card takes its focus away, so cards that stand in order stay where they are
  if (shown.some((card, place) => list.children[place] !== card)) list.append(...shown, ...[...cards.values()].filter((card) => card.hidden));
  const pair = wanted.true ? `${wanted.true} taken for ${wanted.predicted}: ` : "";
  document.querySelector("#status").textContent = `${pair}${rows.length} of ${content.rows.length} clips${cards.size ? `, ${shown.length} of them shown below` : ""}`;
}

const addressNow = () => new URLSearchParams(Object.entries(wantedNow()).filter(([name]) => name !== "score" || controls.low.value || controls.high.value));

function writeAddress() {
  const text = addressNow().toString();
  history.replaceState(null, "", text ? `#${text}` : location.pathname + location.search);
}

function fill(values) {
  for (const field of controls.elements) {
    if (field.type === "checkbox") field.checked = false;
    else if (field.tagName !== "BUTTON") field.value = field.name === "score" ? field.options[0].value : "";
  }
  for (const [name, value] of values) {
    const field = controls.elements[name];
    if (field) field.type === "checkbox" ? (field.checked = true) : (field.value = value);
  }
}

function readAddress() {
  const values = new URLSearchParams(location.hash.slice(1)), clip = values.get("clip");
  values.delete("clip");
  if (controls && (!clip || [...values].length)) { fill(values); update(); }
  const card = clip && [...document.querySelectorAll(".card")].find((element) => element.dataset.clip === clip);
  if (!card) return;
  if (card.hidden) { fill([]); update(); }
  card.scrollIntoView();
  card.focus({ preventScroll: true });
}

[...cards.values()].forEach((card, index) => { card.dataset.index = index; });
if (controls) {
  content.rows.forEach((row, index) => { row.index = index; });
  const change = () => { update(); writeAddress(); };
  controls.addEventListener("input", (event) => { if (event.target.name !== "score" || controls.low.value || controls.high.value) change(); });
  controls.addEventListener("reset", () => setTimeout(() => { fill([]); change(); }));
  controls.addEventListener("submit", (event) => event.preventDefault());
  document.addEventListener("click", (event) => {
    const head = event.target.closest("[data-order]"), pair = event.target.closest("[data-true]");
    if (head) {
      controls.falling.checked = controls.order.value === head.dataset.order && !controls.falling.checked;
      controls.order.value = head.dataset.order;
      change();
      document.querySelector(`[data-order="${head.dataset.order}"]`).focus();
    }
    if (pair) {
      fill([["true", pair.dataset.true], ["predicted", pair.dataset.predicted]]);
      change();
      document.querySelector("#controls").scrollIntoView();
    }
    if (event.target.id === "more") { complete = true; update(); }
  });
  update();
}
addEventListener("hashchange", readAddress);
if (location.hash.length > 1) readAddress();
