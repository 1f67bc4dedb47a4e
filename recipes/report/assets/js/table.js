// The table of all clips: columns { key, heading, sentence, kind } and rows { id, label, prediction, wrong, card, values }.
// Filter and order are those of filter.js, so that table and cards show the same.
const content = JSON.parse(document.querySelector("#data")?.textContent ?? "null");
const SHORT = 40; // rows at first
let complete = false;

// A small picture of a clip that has a card.
function thumbnailOf(card) {
  const image = document.createElement("img");
  image.alt = "";
  image.className = "thumb";
  image.src = card.dataset.levels;
  return image;
}

// At most three decimals, and no more than three digits of what is larger.
const shortOf = (value) => (value === null ? "undefined" : String(Number(Math.abs(value) < 1 ? value.toFixed(3) : value.toPrecision(3))));

function cell(row, column) {
  const element = document.createElement(column.kind === "clip" ? "th" : "td"), value = row.values[column.key];
  if (column.kind === "clip") {
    element.scope = "row";
    const card = row.card && document.getElementById(row.card);
    if (card) {
      const link = document.createElement("a");
      link.href = `#clip=${encodeURIComponent(row.id)}`;
      link.textContent = row.id;
      element.append(link, thumbnailOf(card));
    } else element.textContent = row.id;
  } else if (column.kind === "verdict") {
    const verdict = content.verdicts[value];
    element.textContent = verdict ? `${verdict.symbol} ${verdict.label}` : "";
    element.className = `verdict ${value}`;
  } else if (column.kind === "number") {
    element.textContent = shortOf(value);
    element.className = "number";
  } else element.textContent = value ?? "";
  if (column.key === "prediction" && row.wrong) element.prepend("✗ ");
  return element;
}

function heads(order, falling) {
  return content.columns.map((column) => {
    const head = document.createElement("th");
    head.scope = "col";
    head.title = column.sentence;
    if (column.kind !== "number") return head.append(column.heading), head;
    const button = document.createElement("button"), sorted = order === column.key;
    head.className = "number";
    button.type = "button";
    button.dataset.order = column.key;
    button.textContent = column.heading + (sorted ? (falling ? " ▼" : " ▲") : "");
    head.ariaSort = sorted ? (falling ? "descending" : "ascending") : "none";
    head.append(button);
    return head;
  });
}

function showTable(rows, order, falling) {
  const table = document.querySelector("#table"), shown = complete ? rows : rows.slice(0, SHORT);
  table.tHead.rows[0].replaceChildren(...heads(order, falling));
  table.tBodies[0].replaceChildren(...shown.map((row) => {
    const line = document.createElement("tr");
    line.append(...content.columns.map((column) => cell(row, column)));
    return line;
  }));
  const more = document.querySelector("#more");
  more.hidden = shown.length === rows.length;
  more.textContent = `show all ${rows.length}`;
}
