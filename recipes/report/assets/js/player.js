"use strict";
// One player for the page, by Web Audio. A button with data-sound starts its sound, or stops it while it plays; another
// button of the same card goes on at the same place. A card keeps its place in data-at, in seconds.
let context = null, source = null, playing = null, began = 0, turn = 0;
const player = { matched: false };
const MOST_GAIN = 1000; // 60 dB: a residual quieter than that stays quiet
let decoded = { card: null, buffers: new Map() };

const cardOf = (element) => element.closest(".card");
const timeOf = (card) => Number(card.dataset.at ?? 0);

// The stretch that a card repeats, [from, to] in seconds, or null.
function loopOf(card) {
  const looping = card.querySelector("[data-loop]")?.ariaPressed === "true";
  return looping && card.dataset.from ? [Number(card.dataset.from), Number(card.dataset.to)] : null;
}

function show(card, time) {
  card.dataset.at = time;
  card.dispatchEvent(new CustomEvent("place"));
  const seek = card.querySelector(".seek");
  if (seek) seek.value = time;
}

function heardAt() {
  const time = context.currentTime - began, loop = source.loop && [source.loopStart, source.loopEnd];
  return loop && time > loop[1] ? loop[0] + ((time - loop[0]) % (loop[1] - loop[0])) : time;
}

function follow() {
  if (!source) return;
  show(cardOf(playing), heardAt());
  requestAnimationFrame(follow);
}

function stop() {
  turn += 1; // a sound that is still being decoded sees that its turn is over
  if (!playing) return;
  playing.setAttribute("aria-pressed", "false");
  if (!source) return;
  show(cardOf(playing), heardAt());
  source.onended = null;
  source.stop();
  source = null;
}

async function bufferOf(button) {
  const card = cardOf(button);
  if (decoded.card !== card) decoded = { card, buffers: new Map() };
  const { buffers } = decoded;
  if (!buffers.has(button)) {
    const bytes = await (await fetch(button.dataset.sound)).arrayBuffer();
    buffers.set(button, await context.decodeAudioData(bytes));
  }
  return buffers.get(button);
}

function levelOf(buffer) {
  const samples = buffer.getChannelData(0);
  let energy = 0, peak = 0;
  for (const sample of samples) {
    energy += sample * sample;
    peak = Math.max(peak, Math.abs(sample));
  }
  return { rms: Math.sqrt(energy / samples.length), peak };
}

// What brings a sound to the level of the card's input without clipping it.
async function gainOf(button, buffer) {
  const input = cardOf(button).querySelector("[data-part=input][data-sound]");
  if (!player.matched || !input) return 1;
  const wanted = levelOf(await bufferOf(input)), level = levelOf(buffer);
  if (!level.rms) return 1;
  return Math.min(wanted.rms / level.rms, 1 / level.peak, MOST_GAIN);
}

async function start(button) {
  stop();
  const mine = turn, card = cardOf(button);
  playing = button;
  button.setAttribute("aria-pressed", "true");
  card.dispatchEvent(new CustomEvent("part", { detail: button }));
  try {
    context ??= new AudioContext();
    await context.resume();
    const buffer = await bufferOf(button), gain = new GainNode(context, { gain: await gainOf(button, buffer) });
    if (mine !== turn) return;
    const loop = loopOf(card);
    let from = timeOf(card) < buffer.duration - 0.05 ? timeOf(card) : 0;
    if (loop && (from < loop[0] || from >= loop[1])) from = loop[0];
    source = new AudioBufferSourceNode(context, { buffer });
    if (loop) Object.assign(source, { loop: true, loopStart: loop[0], loopEnd: Math.min(loop[1], buffer.duration) });
    source.connect(gain).connect(context.destination);
    source.onended = () => { stop(); show(card, 0); };
    source.start(0, from);
    began = context.currentTime - from;
    follow();
  } catch (error) {
    stop();
    document.querySelector("#status").textContent = `This browser cannot play the sound: ${error.message}`;
  }
}

// Go to a place of a card; what plays there goes on from it.
function seekTo(card, time) {
  const active = playing?.ariaPressed === "true" && card.contains(playing);
  if (active) stop();
  show(card, Math.min(Math.max(time, 0), Number(card.dataset.seconds ?? Infinity)));
  if (active) start(playing);
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-sound]");
  if (button) button.ariaPressed === "true" ? stop() : start(button);
});
