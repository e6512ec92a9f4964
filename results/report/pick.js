"use strict";
// The limits, the front and the rules of results/choice.py, on the same numbers: the trials as the page holds them.

const data = JSON.parse(document.getElementById("data").textContent);
const { objectives, maximise, rules, bounds } = data;
const known = (value) => value !== null && value !== undefined;
const trials = data.trials.trial.map((_, i) => ({
  ...Object.fromEntries(Object.entries(data.trials).map(([name, values]) => [name, values[i]])),
  place: i,
  curve: data.curves[i],
  text: data.summaries[data.trials.network[i]] ?? "",
}));

function keeps(t, given) {
  return Object.entries(bounds).every(([name, column]) => {
    if (!(name in given)) return true;
    if (!known(t[column])) return false;
    return name.startsWith("max_") ? t[column] <= given[name] : t[column] >= given[name];
  });
}

function frontOf(candidates) {
  const whole = candidates.filter((t) => objectives.every((o) => known(t[o])));
  const points = whole.map((t) => objectives.map((o, i) => (maximise[i] ? t[o] : -t[o])));
  const beats = (a, b) => a.every((v, i) => v >= b[i]) && a.some((v, i) => v > b[i]);
  return whole.filter((_, i) => !points.some((p) => beats(p, points[i])));
}

function totals(front) {
  const sums = new Map(front.map((t) => [t, 0]));
  objectives.forEach((objective, i) => {
    const values = front.map((t) => t[objective]);
    const [low, high] = [Math.min(...values), Math.max(...values)];
    const [worst, best] = maximise[i] ? [low, high] : [high, low];
    if (best !== worst) front.forEach((t) => sums.set(t, sums.get(t) + (t[objective] - worst) / (best - worst)));
  });
  return sums;
}

function choose(candidates, rule) {
  let suited = candidates.filter((t) => rule !== "max-throughput" || known(t.throughput));
  if (rule === "knee") suited = [...totals(frontOf(suited))].map(([t, total]) => ({ ...t, total }));
  const compare = (a, b) => {
    for (const [name, ascending] of Object.entries(rules[rule])) {
      const [p, q] = [a[name] ?? null, b[name] ?? null];
      if (p === q) continue;
      if (p === null || q === null) return p === null ? 1 : -1;
      return ascending ? p - q : q - p;
    }
    return a.trial - b.trial;
  };
  const best = suited.sort(compare)[0];
  return best && trials[best.place];
}
