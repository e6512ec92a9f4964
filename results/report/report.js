// Figures of the report: traces for Plotly from the JSON inside the page, drawn again when a control moves.

const { quantities, parameters, colours } = data;
const BUTTONS = ["toImage", "zoom2d", "pan2d", "resetScale2d"];
const CONFIG = { displaylogo: false, responsive: true, modeBarButtons: [BUTTONS] };
const SYMBOLS = { front: "diamond", complete: "circle", stopped: "x", "under way": "triangle-up" };
const LABELS = {
  stopped: "stopped early, last accuracy", "under way": "under way, accuracy so far", complete: "at full budget",
  front: "front",
};
const FEW = 200; // points that can all have their intervals drawn

const at = (id) => document.getElementById(id);
const number = (value) =>
  value.toLocaleString("en", Math.abs(value) < 1000 ? { maximumSignificantDigits: 4 } : { maximumFractionDigits: 0 });
const shown = trials.filter((t) => t.shown);
const complete = shown.filter((t) => t.outcome === "complete");
const state = (t) => (["running", "paused"].includes(t.outcome) ? "under way" : t.outcome);
const sliders = [...document.querySelectorAll("input[type=range]")];
const inUnits = (name, value) => (value === null ? null : value / quantities[name].divisor);
const costs = (t) => Object.entries(quantities).filter(([name]) => known(t[name]))
  .map(([name, q]) => [q.name, `${number(t[name] / q.divisor)} ${q.unit}`]);
const spelled = (t) => costs(t).map((pair) => pair.join(" "));

// The figure of the front.

function limits() {
  const active = sliders.filter((s) => Number(s.value) !== Number(s.dataset.loosest));
  return Object.fromEntries(active.map((s) => [s.id, Number(s.value)]));
}

function trace(name, list, colour, front, extra = {}) {
  const [x, y] = [at("x").value, at("y").value];
  const bars = {};
  for (const [axis, column] of [["error_x", x], ["error_y", y]]) {
    if (column !== "accuracy") continue;
    const sure = list.map((t) => t.low !== null && (front.has(t) || shown.length <= FEW));
    const reach = (side) => list.map((t, i) => (sure[i] ? Math.abs(t[side] - t.accuracy) : 0));
    if (!sure.includes(true)) continue;
    bars[axis] = { array: reach("high"), arrayminus: reach("low"), symmetric: false, thickness: 1, width: 2 };
    bars[axis].color = "rgba(90, 90, 90, 0.45)";
  }
  return {
    name, type: "scatter", mode: "markers", customdata: list.map((t) => t.place),
    x: list.map((t) => inUnits(x, t[x])), y: list.map((t) => inUnits(y, t[y])),
    text: list.map((t) => [`trial ${t.trial}, ${t.outcome}`, ...t.text.split(" | "), ...spelled(t)].join("<br>")),
    hovertemplate: "%{text}<extra></extra>",
    marker: {
      color: colour,
      symbol: list.map((t) => SYMBOLS[front.has(t) ? "front" : state(t)]),
      size: shown.length > FEW ? 7 : 9,
    },
    ...bars, ...extra,
  };
}

function ring(name, t, symbol) {
  const [x, y] = [at("x").value, at("y").value];
  const marker = { symbol, size: 19, color: "#000", line: { width: 2 } };
  const place = { x: [inUnits(x, t[x])], y: [inUnits(y, t[y])] };
  return { name, ...place, type: "scatter", mode: "markers", marker, hoverinfo: "skip" };
}

function coloured(kept, front) {
  const by = at("colour").value;
  if (!by) {
    const groups = Object.keys(LABELS).map((g) => [g, kept.filter((t) => (front.has(t) ? "front" : state(t)) === g)]);
    return groups.filter(([, list]) => list.length).map(([g, list]) => trace(LABELS[g], list, colours[g], front));
  }
  if (by in quantities) {
    const [valued, unknown] = [kept.filter((t) => known(t[by])), kept.filter((t) => !known(t[by]))];
    const { name, title } = quantities[by];
    const scaled = trace(name, valued, valued.map((t) => inUnits(by, t[by])), front, { showlegend: false });
    Object.assign(scaled.marker, { colorscale: "Cividis", colorbar: { title: { text: title }, thickness: 12 } });
    return unknown.length ? [scaled, trace("not known", unknown, colours.absent, front)] : [scaled];
  }
  const values = parameters[by.slice("param.".length)];
  const rank = (v) => (v === data.notAsked ? 2 : typeof v === "string" ? 1 : 0);
  const different = [...new Set(values)].sort((a, b) => rank(a) - rank(b) || (a > b ? 1 : a < b ? -1 : 0));
  const palette = different.length <= colours.values.length + 1 ? colours.values : colours.scale;
  return different.map((value, i) => {
    const colour = value === data.notAsked ? colours.absent : palette[i % palette.length];
    return trace(String(value), kept.filter((t) => values[t.place] === value), colour, front);
  }).filter((group) => group.x.length);
}

function layout(x, y) {
  return {
    template: data.template, margin: { t: 20, r: 40, b: 50, l: 65 }, hovermode: "closest", uirevision: x + y,
    hoverlabel: { bgcolor: "#fff", align: "left", font: { color: "#222" } }, modebar: { orientation: "v" },
    xaxis: { title: { text: x } }, yaxis: { title: { text: y } },
    legend: { orientation: "h", y: 1.02, yanchor: "bottom" },
  };
}

const configs = unpacked(data.configs);
let pick, selected, highlighted;

function drawFront() {
  const [x, y, given] = [at("x").value, at("y").value, limits()];
  const visible = shown.filter((t) => known(t[x]) && known(t[y]));
  const [kept, lost] = [visible.filter((t) => keeps(t, given)), visible.filter((t) => !keeps(t, given))];
  const candidates = complete.filter((t) => keeps(t, given));
  const front = new Set(frontOf(candidates));
  pick = choose(candidates, at("rule").value);
  const traces = coloured(kept, front);
  const bare = { error_x: {}, error_y: {} };
  if (lost.length) traces.unshift(trace("exceeds a limit", lost, colours.excluded, new Set(), bare));
  if (objectives.length === 2 && x !== y && objectives.includes(x) && objectives.includes(y)) {
    const shape = maximise[objectives.indexOf(x)] ? "vh" : "hv";
    const line = [...front].sort((a, b) => a[x] - b[x] || b[y] - a[y]);
    traces.unshift({
      x: line.map((t) => inUnits(x, t[x])), y: line.map((t) => inUnits(y, t[y])), type: "scatter", mode: "lines",
      line: { color: colours.front, width: 1, dash: "dot", shape }, hoverinfo: "skip", showlegend: false,
    });
  }
  if (pick) traces.push(ring(`pick: trial ${pick.trial}`, pick, "circle-open"));
  if (selected?.shown && selected !== pick) traces.push(ring(`trial ${selected.trial}`, selected, "square-open"));
  sayChoice(candidates.length);
  return Plotly.react("front", traces, layout(quantities[x].title, quantities[y].title), CONFIG);
}

function sayChoice(count) {
  for (const s of sliders) {
    const free = !(s.id in limits());
    const value = (s.value / s.dataset.divisor).toLocaleString("en", { maximumSignificantDigits: 9 });
    s.previousElementSibling.querySelector("output").textContent = free ? "any" : value;
  }
  const kept = `${count} of ${complete.length} complete trials keep the limits.`;
  const lines = pick && [`Trial ${pick.trial}`, ...costs(pick).map((c) => c.join(" ")), kept];
  if (pick) at("choice").replaceChildren(...lines.map((text, i) => element(i ? "div" : "b", text)));
  else if (!complete.length) at("choice").textContent = "No trial is complete yet.";
  else at("choice").textContent = count ? "No trial has what this rule looks at." : "No trial keeps these limits.";
}

// The trial that is shown, and its learning curve among all.

function showTrial(t) {
  at("heading").textContent = t ? `Trial ${t.trial}${t === pick ? ", the pick" : ""}` : "No trial picked";
  at("trial").hidden = !t;
  if (!t) return;
  const spread = known(t.throughput_p10) ? ` (p10-p90 ${number(t.throughput_p10)}-${number(t.throughput_p90)})` : "";
  const facts = [["outcome", t.reason ? `${t.outcome}: ${t.reason}` : t.outcome], ...costs(t)];
  if (t.low !== null) facts.splice(2, 0, ["95 % interval", `${number(t.low)} to ${number(t.high)} %`]);
  for (const fact of facts) if (fact[1].endsWith("img/s")) fact[1] += spread + (t.steady === false ? "!" : "") + (t.host_bound ? "h" : "");
  at("costs").replaceChildren(...facts.flatMap((pair) => pair.map((text, i) => element(i ? "dd" : "dt", text))));
  at("stages").replaceChildren(...t.text.split(" | ").map((text) => element("li", text)));
  const lines = [`python analyze.py pick ${data.source} --trial ${t.trial}`, `python run_search.py ${data.pick}`];
  if (t.outcome === "complete") lines.push(`python analyze.py export ${data.source} --trial ${t.trial}`);
  const does = t.outcome === "complete" ? "Train it fully, and export it as trained here:" : "Train it fully:";
  at("commands").replaceChildren(element("span", does), element("pre", lines.join("\n")));
  configs.then((all) => { at("config").textContent = JSON.stringify(all[t.network], null, 1); });
}

async function unpacked(text) {
  const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).json();
}

function element(tag, text) {
  return Object.assign(document.createElement(tag), { textContent: text });
}

function drawCurves() {
  const one = selected ?? pick;
  if (one === highlighted && at("curves").data) return;
  highlighted = one;
  const line = (name, list, line) => ({
    name, type: "scatter", mode: "lines", connectgaps: false, line,
    x: list.flatMap((t) => [...t.curve.map((_, i) => i + 1), null]), y: list.flatMap((t) => [...t.curve, null]),
    customdata: list.flatMap((t) => Array(t.curve.length + 1).fill(t.place)),
    text: list.flatMap((t) => Array(t.curve.length + 1).fill(`trial ${t.trial}`)),
    hovertemplate: "%{text}, epoch %{x}: %{y:.2f} %<extra></extra>",
  });
  const of = (g) => trials.filter((t) => state(t) === g && t.curve.length);
  const groups = ["failed", "stopped", "under way", "complete"].map((g) => [g, of(g)]);
  const there = groups.filter(([, list]) => list.length);
  const traces = there.map(([g, list]) => line(g, list, { color: colours[g], width: 1 }));
  traces.forEach((t) => { t.opacity = shown.length > FEW ? 0.35 : 0.6; });
  if (one?.curve.length) {
    traces.push({ ...line(`trial ${one.trial}`, [one], { color: "#000", width: 2.5 }), mode: "lines+markers" });
  }
  return Plotly.react("curves", traces, layout("epoch", quantities.accuracy.title), CONFIG);
}

function choosePick() {
  selected = undefined;
  const drawn = drawFront();
  showTrial(pick);
  return drawn;
}

function select(place) {
  selected = trials[place];
  drawFront();
  showTrial(selected);
  drawCurves();
}

// The table of all candidates.

const TABLE = [
  ["trial", (t) => t.trial], ["outcome", (t) => t.outcome], ["epochs", (t) => t.epochs],
  ...Object.entries(quantities).map(([name, q]) => [q.title, (t) => inUnits(name, t[name])]),
  ["network", (t) => t.text], ["reason", (t) => t.reason],
];

function fillTable(key, ascending) {
  const value = (t) => key(t) ?? -Infinity;
  const order = (a, b) => (value(a) > value(b) ? 1 : value(a) < value(b) ? -1 : 0);
  const rows = [...trials].sort((a, b) => (ascending ? order(a, b) : order(b, a)));
  at("all").querySelector("tbody").replaceChildren(...rows.map((t) => {
    const row = element("tr");
    row.append(...TABLE.map(([, get]) => {
      const cell = get(t);
      if (typeof cell === "number") return element("td", number(cell));
      return Object.assign(element("td", cell), { className: "text" });
    }));
    row.onclick = () => t.shown && select(t.place);
    return row;
  }));
}

function makeTable() {
  let last;
  at("all").querySelector("thead").replaceChildren(...TABLE.map(([title, key]) => Object.assign(element("th", title), {
    onclick: () => { fillTable(key, last === title); last = last === title ? undefined : title; },
  })));
  fillTable(TABLE[0][1], true);
}

async function start() {
  if (at("front")) {
    at("y").value = "accuracy";
    at("x").value = objectives.find((o) => o !== "accuracy" && o in quantities) ?? Object.keys(quantities)[0];
    await choosePick();
    performance.mark("front drawn");
    at("front").on("plotly_click", (event) => select(event.points[0].customdata));
    for (const id of ["x", "y", "colour"]) at(id).onchange = drawFront;
    for (const control of [at("rule"), ...sliders]) control.oninput = () => { choosePick(); drawCurves(); };
    await drawCurves();
    at("curves").on("plotly_click", (event) => select(event.points[0].customdata));
  }
  data.sections.forEach((figure, i) => {
    if (figure) Plotly.newPlot(`section${i}`, figure.data, { ...layout("", ""), ...figure.layout }, CONFIG);
  });
  at("all").open ? makeTable() : at("all").addEventListener("toggle", makeTable, { once: true });
  performance.mark("report drawn");
}

start();
