"use strict";
// One player for the page, by Web Audio: it seeks to the sample, and goes on at the same place in another sound of a
// card. A button with data-sound starts its sound, or stops it while it plays.
let context = null, source = null, playing = null, began = 0, turn = 0;

function show(card, time) {
  const seek = card.querySelector(".seek");
  card.dataset.at = time;
  if (!seek) return;
  seek.value = time;
  card.querySelector(".plot").style.setProperty("--at", seek.value / seek.max);
}

function follow() {
  if (!source) return;
  show(playing.closest(".card"), context.currentTime - began);
  requestAnimationFrame(follow);
}

function stop() {
  turn += 1; // a sound that is still being decoded finds that its turn is over
  if (!playing) return;
  playing.setAttribute("aria-pressed", "false");
  if (!source) return;
  show(playing.closest(".card"), context.currentTime - began);
  source.onended = null;
  source.stop();
  source = null;
}

async function start(button) {
  stop();
  const mine = turn, card = button.closest(".card");
  playing = button;
  button.setAttribute("aria-pressed", "true");
  if (button.dataset.part) card.querySelector(".plot").dataset.part = button.dataset.part;
  try {
    context ??= new AudioContext();
    await context.resume();
    const buffer = await context.decodeAudioData(await (await fetch(button.dataset.sound)).arrayBuffer());
    if (mine !== turn) return;
    const at = Number(card.dataset.at ?? 0), from = at < buffer.duration - 0.05 ? at : 0;
    source = new AudioBufferSourceNode(context, { buffer });
    source.connect(context.destination);
    source.onended = () => { stop(); show(card, 0); };
    source.start(0, from);
    began = context.currentTime - from;
    follow();
  } catch (error) {
    stop();
    document.querySelector("#status").textContent = `This browser cannot play the sound: ${error.message}`;
  }
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-sound]");
  if (button) button.ariaPressed === "true" ? stop() : start(button);
});
