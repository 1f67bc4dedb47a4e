// The colour map (magma), dark for silence in a dark page and reversed, light for silence, in a light one or on paper.
const MAGMA = JSON.parse(document.querySelector("#colours").textContent);
const PALE = 50; // of 255 steps
const DARK = matchMedia("(prefers-color-scheme: dark)"), PRINT = matchMedia("print");

function theme() {
  const dark = DARK.matches && !PRINT.matches;
  const style = getComputedStyle(document.documentElement);
  return {
    dark,
    outline: dark ? [90, 235, 200] : [0, 122, 100],
    text: PRINT.matches ? "#000" : style.getPropertyValue("--front"),
    colour: (share) => {
      const index = Math.round(255 * Math.min(Math.max(share, 0), 1));
      if (dark) return MAGMA[index];
      // the pale yellow end runs into white, so that silence looks like paper
      const ink = Math.min(index / PALE, 1);
      return MAGMA[255 - index].map((value) => 255 + (value - 255) * ink);
    },
  };
}
