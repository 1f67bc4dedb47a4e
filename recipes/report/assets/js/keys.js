// Keys: space plays, 1 2 3 ... choose the sound, arrows seek and step through the cards, Esc drops the selection.
const SECONDS_PER_KEY = 0.5;
const visibleCards = () => [...document.querySelectorAll(".card:not([hidden])")];
let current = null; // the card that keys act on: the one that was used last

function currentCard() {
  if (!current || current.hidden) current = visibleCards()[0] ?? null;
  return current;
}

// The sounds that number keys choose: those shared by the views of a card, and those of the view in use.
function soundsOf(card) {
  const view = (playing && card.contains(playing) && playing.closest(".view:not([hidden])")) || card.querySelector(".view:not([hidden])");
  const shared = card.querySelectorAll(".view:not([hidden]) [data-part=input][data-sound]");
  return [...shared, ...view.querySelectorAll("[data-sound]:not([data-part=input])")];
}

function step(card, by) {
  const cards = visibleCards(), next = cards[cards.indexOf(card) + by];
  if (!next) return;
  current = next;
  next.focus({ preventScroll: true });
  next.scrollIntoView({ block: "nearest" });
}

const ACTIONS = {
  " ": (card) => {
    if (playing?.ariaPressed === "true") return stop();
    return start(playing && card.contains(playing) ? playing : soundsOf(card)[0]);
  },
  ArrowLeft: (card) => seekTo(card, timeOf(card) - SECONDS_PER_KEY),
  ArrowRight: (card) => seekTo(card, timeOf(card) + SECONDS_PER_KEY),
  ArrowUp: (card) => step(card, -1),
  ArrowDown: (card) => step(card, 1),
  Escape: (card) => select(card, null),
};

document.addEventListener("keydown", (event) => {
  const target = event.target, card = currentCard();
  if (event.ctrlKey || event.altKey || event.metaKey || !card) return;
  if (target.matches("select, textarea, input:not([type=checkbox])")) return;
  if (event.key === " " && target.closest("button, a, summary, input")) return; // they have a use for it
  if (["ArrowUp", "ArrowDown"].includes(event.key) && !cardOf(target)) return; // the page scrolls
  const digit = /^[1-9]$/.test(event.key) && soundsOf(card)[Number(event.key) - 1];
  const action = digit ? () => start(digit) : ACTIONS[event.key];
  if (!action) return;
  event.preventDefault();
  action(card);
});
const note = (event) => { const card = event.target.closest?.(".card"); if (card?.dataset.clip) current = card; };
["pointerdown", "focusin"].forEach((kind) => document.addEventListener(kind, note));
