// Draws the figures when they come into view, switches axes, hides methods, sorts and copies tables.
"use strict";
const { figures, forms, axes } = JSON.parse(document.getElementById("data").textContent);
const dark = matchMedia("(prefers-color-scheme: dark)");
const touch = matchMedia("(pointer: coarse)").matches;
const states = new Map(); // of each section: the axis and the hidden methods
const drawn = new Set();

for (const section of document.querySelectorAll(".part")) states.set(section, { axis: "epochs", hidden: new Set() });

/** The same with colours of the theme for $c0 to $c6 and $ink; $c1/0.15 is translucent. */
function painted(value) {
  if (Array.isArray(value)) return value.map(painted);
  if (value && typeof value === "object")
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, painted(item)]));
  const found = typeof value === "string" && value.match(/^\$(c\d|ink)(?:\/([\d.]+))?$/);
  if (!found) return value;
  const colour = getComputedStyle(document.documentElement).getPropertyValue(`--${found[1]}`).trim();
  const hex = colour.length === 4 ? colour.replace(/[\da-f]/gi, "$&$&") : colour;
  return found[2] ? hex + Math.round(found[2] * 255).toString(16).padStart(2, "0") : hex;
}

function draw(plot) {
  const { axis, hidden } = states.get(plot.closest(".part"));
  const { data, layout } = painted(figures[plot.id]);
  const against = data.some((trace) => trace.along);
  const traces = data
    .filter((trace) => !hidden.has(trace.method))
    .filter((trace) => !trace.along || trace.along[axis])
    .map(({ along, method, ...trace }) => (along ? { ...trace, x: along[axis] } : trace));
  const { ends, ...own } = layout;
  const grid = { gridcolor: painted("$ink/0.15"), zeroline: false, automargin: true };
  const x = { ...grid, ...own.xaxis };
  if (against) x.title = { text: axes[axis] };
  if (against && ends?.[axis]) x.range = [0, ends[axis]];
  const full = {
    showlegend: false, margin: { l: 56, r: 8, t: 8, b: 44 }, hovermode: "closest",
    legend: { orientation: "h", x: 0, xanchor: "left", y: 1.02, yanchor: "bottom", traceorder: "normal" },
    ...own,
    xaxis: x, yaxis: { ...grid, ...own.yaxis },
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    font: { color: painted("$ink"), size: 12 }, dragmode: touch ? false : "zoom",
  };
  drawn.add(plot);
  return Plotly.react(plot, traces, full, { displayModeBar: false, responsive: true });
}

const seen = new IntersectionObserver((entries) => {
  for (const { isIntersecting, target } of entries)
    if (isIntersecting) {
      seen.unobserve(target);
      draw(target);
    }
}, { rootMargin: "300px" });
for (const plot of document.querySelectorAll(".plot")) seen.observe(plot);
dark.addEventListener("change", () => drawn.forEach(draw));

function redraw(section) {
  for (const plot of section.querySelectorAll(".plot")) if (drawn.has(plot)) draw(plot);
}

function switchAxis(button) {
  const section = button.closest(".part");
  for (const other of section.querySelectorAll("[data-axis]")) other.setAttribute("aria-pressed", other === button);
  states.get(section).axis = button.dataset.axis;
  redraw(section);
}

function toggleMethod(button) {
  const section = button.closest(".part");
  const { hidden } = states.get(section);
  const show = hidden.delete(button.dataset.method);
  if (!show) hidden.add(button.dataset.method);
  button.setAttribute("aria-pressed", show);
  redraw(section);
}

/** By number where cells have one, text last; the other way at the second click. */
function sort(button) {
  const header = button.closest("th");
  const body = header.closest("table").tBodies[0];
  const way = header.getAttribute("aria-sort") === "ascending" ? -1 : 1;
  for (const other of header.parentNode.children) other.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", way > 0 ? "ascending" : "descending");
  const key = (row) => {
    const cell = row.cells[header.cellIndex];
    return cell.dataset.key === undefined ? cell.textContent : Number(cell.dataset.key.replace("inf", "Infinity"));
  };
  const order = (a, b) => {
    if (typeof a !== typeof b) return typeof a === "number" ? -1 : 1;
    return way * (typeof a === "number" ? (a < b ? -1 : Number(a > b)) : a.localeCompare(b));
  };
  body.append(...[...body.rows].sort((a, b) => order(key(a), key(b))));
}

async function copy(button) {
  const text = forms[button.dataset.table][button.dataset.form];
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = document.body.appendChild(document.createElement("textarea"));
    area.value = text;
    area.select();
    document.execCommand("copy");
    area.remove();
    button.focus();
  }
  button.parentNode.querySelector("[role=status]").textContent = `${button.textContent} copied`;
}

/** The part that the address names; a link to one opens it. */
function openNamed() {
  const part = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (part?.matches("details")) part.open = true;
}
addEventListener("hashchange", openNamed);
openNamed();

document.addEventListener("click", ({ target }) => {
  const button = target.closest("button");
  if (!button) return;
  if (button.dataset.axis) switchAxis(button);
  else if (button.dataset.method !== undefined) toggleMethod(button);
  else if (button.classList.contains("sort")) sort(button);
  else if (button.dataset.form) copy(button);
});
