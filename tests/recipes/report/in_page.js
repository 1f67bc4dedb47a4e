// What the tests of pages call in the browser.
const all = (where) => [...document.querySelectorAll(where)];
const one = (where) => document.querySelector(where);
const shown = () => all("#cards .card:not([hidden]) h3").map((head) => head.textContent).join("");
const status = () => one("#status").textContent;
const at = (where) => Number(one(where).closest(".card").dataset.at ?? 0);
const key = (name, element = document.body) =>
  element.dispatchEvent(new KeyboardEvent("keydown", { key: name, bubbles: true, cancelable: true }));
// The plot of a picture lies within margins of css pixels.
const plot = (picture) => {
  const box = picture.getBoundingClientRect();
  return { left: box.left + 34, width: box.width - 78, top: box.top + 8, height: box.height - 28 };
};
const point = (picture, kind, share) => {
  const { left, width, top, height } = plot(picture);
  const place = { clientX: left + width * share, clientY: top + height / 2, button: 0, bubbles: true };
  picture.dispatchEvent(new PointerEvent(kind, place));
};
const clickAt = (picture, share) => {
  point(picture, "pointerdown", share);
  point(picture, "pointerup", share);
};
const drag = (picture, from, to) => {
  point(picture, "pointerdown", from);
  point(picture, "pointermove", to);
  point(picture, "pointerup", to);
};
const drawn = (picture) => picture.querySelector("canvas").width > 300;
// Mean darkness of a stretch of the plot around x, from 0 for white.
const darkness = (picture, x) => {
  const box = picture.getBoundingClientRect(), canvas = picture.querySelector("canvas"), scale = canvas.width / box.width;
  const { width, height } = plot(picture), pen = canvas.getContext("2d");
  let sum = 0;
  for (let step = 0; step < 20; step++) {
    const left = (34 + width * (x + step / 200)) * scale, top = (8 + height * (0.3 + step / 50)) * scale;
    const [red, green, blue] = pen.getImageData(Math.round(left), Math.round(top), 1, 1).data;
    sum += 765 - red - green - blue;
  }
  return Math.round(sum / 20);
};
const playFor = async (button) => { button.click(); await until(() => source); stop(); };
