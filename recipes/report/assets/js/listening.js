const { study, trials } = JSON.parse(document.querySelector("#study").textContent);
const SCALES = ["quality", "relevance"];
const at = (id) => document.getElementById(id);
let rater = "", order = [], current = 0, ratings = {};

// A generator of numbers in [0, 1) that starts from a text (FNV-1a, then mulberry32): each listener's own fixed order.
function generator(text) {
  let state = 2166136261;
  for (const letter of text) state = Math.imul(state ^ letter.codePointAt(0), 16777619);
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
}

function shuffled(items, random) {
  const mixed = [...items];
  for (let last = mixed.length - 1; last > 0; last--) {
    const other = Math.floor(random() * (last + 1));
    [mixed[last], mixed[other]] = [mixed[other], mixed[last]];
  }
  return mixed;
}

const complete = (stimulus) => SCALES.every((scale) => ratings[stimulus.id]?.[scale] !== undefined);
const memory = () => `listening ${study} ${rater}`;

function begin(name) {
  rater = name;
  const random = generator(`${study} ${rater}`);
  order = shuffled(trials, random).map((trial) => ({ ...trial, stimuli: shuffled(trial.stimuli, random) }));
  ratings = JSON.parse(localStorage.getItem(memory()) ?? "{}");
  at("welcome").hidden = true;
  open(0);
}

function slider(stimulus, letter, scale) {
  const label = document.createElement("label"), input = document.createElement("input"), value = document.createElement("output");
  Object.assign(input, { type: "range", min: 0, max: 100, value: ratings[stimulus.id]?.[scale] ?? 50 });
  input.setAttribute("aria-label", `${scale} of ${letter}`);
  input.classList.toggle("set", ratings[stimulus.id]?.[scale] !== undefined);
  value.textContent = input.classList.contains("set") ? input.value : "not rated";
  const rate = () => {
    (ratings[stimulus.id] ??= {})[scale] = Number(input.value);
    value.textContent = input.value;
    input.classList.add("set");
    localStorage.setItem(memory(), JSON.stringify(ratings));
    report();
  };
  input.addEventListener("input", rate);
  input.addEventListener("pointerup", rate); // a slider that is touched but stays at 50 is rated 50
  label.append(`${scale} `, value, input);
  return label;
}

function open(number) {
  stop();
  current = number;
  const trial = order[number], card = at("trial");
  card.hidden = false;
  delete card.dataset.at;
  at("end").hidden = true;
  card.querySelector("h2").textContent = `Recording ${number + 1} of ${order.length}`;
  at("prediction").textContent = trial.prediction;
  at("reference").dataset.sound = trial.reference;
  at("versions").replaceChildren(...trial.stimuli.map((stimulus, index) => {
    const row = document.createElement("div"), button = document.createElement("button"), letter = String.fromCharCode(65 + index);
    row.className = "rating";
    Object.assign(button, { type: "button", textContent: letter, ariaPressed: "false" });
    button.dataset.sound = stimulus.sound;
    row.append(button, ...SCALES.map((scale) => slider(stimulus, letter, scale)));
    return row;
  }));
  at("back").disabled = number === 0;
  report();
  card.querySelector("h2").focus();
}

function report() {
  const left = order[current].stimuli.filter((stimulus) => !complete(stimulus)).length;
  at("progress").textContent = left ? `${left} of ${order[current].stimuli.length} still to rate here` : "all rated here";
}

function finish() {
  stop();
  at("trial").hidden = true;
  at("end").hidden = false;
  const heard = order.flatMap((trial) => trial.stimuli);
  const done = heard.filter(complete).map((stimulus) => ({ stimulus: stimulus.id, ...ratings[stimulus.id] }));
  at("missing").textContent = done.length < heard.length ? `${heard.length - done.length} versions are not rated yet.` : "Everything is rated. Thank you!";
  at("text").value = JSON.stringify({ study, rater, ratings: done });
  at("download").href = URL.createObjectURL(new Blob([at("text").value], { type: "application/json" }));
  at("download").download = `ratings ${rater}.json`.replace(/[^\w. -]/g, "_");
  at("end").querySelector("h2").focus();
}

at("welcome").addEventListener("submit", (event) => {
  event.preventDefault();
  begin(new FormData(event.target).get("rater").trim());
});
at("next").addEventListener("click", () => (current + 1 < order.length ? open(current + 1) : finish()));
at("back").addEventListener("click", () => open(current - 1));
at("again").addEventListener("click", () => open(order.length - 1));
at("copy").addEventListener("click", async () => {
  at("text").select();
  await navigator.clipboard.writeText(at("text").value);
  at("status").textContent = "copied";
});
