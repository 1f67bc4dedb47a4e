// Drawing a spectrogram on a canvas: grey pictures in, pixels out. No events and no state here.
const PICTURE_RANGE_DB = 100; // from white to black in the pictures that the page holds
const MARGIN = { left: 34, right: 44, top: 8, bottom: 20 }; // css pixels around the plot; page.css knows them, too
const LOWEST_HZ = 50; // of the logarithmic axis
const OUTLINE = 2; // pixels

// The grey values of an image: { width, height, data }, row 0 on top.
async function greyOf(uri) {
  const image = await createImageBitmap(await (await fetch(uri)).blob());
  const canvas = new OffscreenCanvas(image.width, image.height), pen = canvas.getContext("2d", { willReadFrequently: true });
  pen.drawImage(image, 0, 0);
  const pixels = pen.getImageData(0, 0, image.width, image.height).data;
  const data = new Uint8Array(image.width * image.height);
  for (let index = 0; index < data.length; index++) data[index] = pixels[4 * index];
  return { width: image.width, height: image.height, data };
}

const toMel = (hz) => 2595 * Math.log10(1 + hz / 700);
const fromMel = (mel) => 700 * (10 ** (mel / 2595) - 1);
// height on the axis, 0 at the bottom to 1 on top -> Hz, and back
const AXES = {
  linear: { hz: (height, top) => height * top, height: (hz, top) => hz / top },
  log: {
    hz: (height, top) => LOWEST_HZ * (top / LOWEST_HZ) ** height,
    height: (hz, top) => Math.log(hz / LOWEST_HZ) / Math.log(top / LOWEST_HZ),
  },
  mel: { hz: (height, top) => fromMel(height * toMel(top)), height: (hz, top) => toMel(hz) / toMel(top) },
};

// For every pixel along an axis the range [first, last) of source pixels that it covers, one or more.
function rangesOf(count, size, positionOf) {
  const ranges = [];
  for (let pixel = 0; pixel < count; pixel++) {
    const [low, high] = [positionOf(pixel), positionOf(pixel + 1)].sort((a, b) => a - b);
    const first = Math.min(Math.max(Math.floor(low + 1e-6), 0), size - 1);
    ranges.push([first, Math.min(Math.max(Math.ceil(high - 1e-6), first + 1), size)]);
  }
  return ranges;
}

// One value for each of height x width pixels of a view: the largest, or the mean, of the source pixels that it covers.
function resample(grey, view, width, height, largest) {
  const axis = AXES[view.axis], values = new Float32Array(width * height);
  const rowAt = (pixel) => grey.height * (1 - axis.hz(1 - pixel / height, view.topHz) / view.topHz);
  const columnAt = (pixel) => (grey.width * (view.start + ((view.end - view.start) * pixel) / width)) / view.seconds;
  const rows = rangesOf(height, grey.height, rowAt), columns = rangesOf(width, grey.width, columnAt);
  for (let row = 0, at = 0; row < height; row++) {
    for (let column = 0; column < width; column++, at++) {
      let peak = 0, sum = 0, count = 0;
      for (let y = rows[row][0]; y < rows[row][1]; y++) {
        for (let x = columns[column][0]; x < columns[column][1]; x++, count++) {
          const value = grey.data[y * grey.width + x];
          sum += value;
          if (value > peak) peak = value;
        }
      }
      values[at] = (largest ? peak : sum / count) / 255;
    }
  }
  return values;
}

// Whether a kept pixel lies within OUTLINE pixels of one that is not kept.
function isEdge(kept, at, row, column, width, height) {
  if (kept[at] < 0.5) return false;
  for (let by = 1; by <= OUTLINE; by++) {
    if (column >= by && kept[at - by] < 0.5) return true;
    if (column + by < width && kept[at + by] < 0.5) return true;
    if (row >= by && kept[at - by * width] < 0.5) return true;
    if (row + by < height && kept[at + by * width] < 0.5) return true;
  }
  return false;
}

// The pixels of the plot. grey: { levels, mask, map }; view: what to show, see picture.js.
function paintPlot(grey, view, width, height, looks) {
  const showsMap = view.show === "map" && grey.map;
  const base = resample(showsMap ? grey.map : grey.levels, view, width, height, true);
  const mask = resample(grey.mask, view, width, height, false);
  const image = new ImageData(width, height), back = looks.colour(0);
  const kept = view.part === "residual" ? mask.map((value) => 1 - value) : mask;
  for (let row = 0, at = 0; row < height; row++) {
    for (let column = 0; column < width; column++, at++) {
      const share = showsMap ? base[at] : 1 - ((1 - base[at]) * PICTURE_RANGE_DB) / view.range;
      const colour = looks.colour(share);
      const clear = showsMap || view.part === "input" ? 1 : 1 - view.dim * (1 - kept[at]);
      const edge = isEdge(kept, at, row, column, width, height);
      for (let channel = 0; channel < 3; channel++) {
        const shown = back[channel] + (colour[channel] - back[channel]) * clear;
        image.data[4 * at + channel] = edge ? looks.outline[channel] : shown;
      }
      image.data[4 * at + 3] = 255;
    }
  }
  return image;
}

// About `count` round numbers from `start` to `end`.
function ticksOf(start, end, count) {
  const rough = (end - start) / count, power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((factor) => factor * power >= rough);
  const ticks = [];
  for (let tick = Math.ceil(start / step - 1e-6); tick * step <= end + 1e-9; tick++) ticks.push(Number((tick * step).toFixed(6)));
  return ticks;
}

function frequencyTicks(view) {
  const top = view.topHz / 1000;
  if (view.axis === "linear") return ticksOf(0, top, 4);
  return [0.1, 0.2, 0.5, 1, 2, 5, 10, 20].filter((khz) => khz <= top && (view.axis === "log" || khz >= 0.5));
}

// Axes and colour bar around the plot, which is `width` x `height` css pixels.
function paintAxes(pen, view, width, height, looks) {
  const { left, top } = MARGIN, right = left + width, bottom = top + height;
  Object.assign(pen, { fillStyle: looks.text, font: "11px system-ui, sans-serif", textBaseline: "middle", textAlign: "right" });
  for (const khz of frequencyTicks(view)) {
    pen.fillText(`${khz}`, left - 5, bottom - height * AXES[view.axis].height(1000 * khz || 1e-3, view.topHz));
  }
  pen.save();
  pen.translate(7, top + height / 2);
  pen.rotate(-Math.PI / 2);
  pen.textAlign = "center";
  pen.fillText("kHz", 0, 0);
  pen.restore();
  Object.assign(pen, { textAlign: "center", textBaseline: "top" });
  for (const second of ticksOf(view.start, view.end, Math.max(2, width / 90))) {
    const x = left + (width * (second - view.start)) / (view.end - view.start);
    pen.fillText(second === 0 ? "0 s" : `${second}`, Math.min(x, right - 4), bottom + 5);
  }
  for (let y = 0; y < height; y++) {
    pen.fillStyle = `rgb(${looks.colour(1 - y / height)})`;
    pen.fillRect(right + 6, top + y, 8, 1);
  }
  Object.assign(pen, { fillStyle: looks.text, textAlign: "left", textBaseline: "middle" });
  const labels = view.show === "map" ? ["max", "", "min"] : ["0 dB", `−${view.range / 2}`, `−${view.range}`];
  labels.forEach((label, place) => pen.fillText(label, right + 17, top + 5 + ((height - 10) * place) / 2));
}
