// The timeline: when each action started and ended, as the server's Server-Timing field tells.

/** A Server-Timing field by the index of the action: {start, end} in milliseconds; null for one that did not run. */
function readTiming(field) {
  const timing = new Map();
  for (const [, index, parameters] of (field ?? "").matchAll(/(?:^|,)\s*a(\d+)((?:;\w+=[\d.]+)*)(?=\s*(?:,|$))/g)) {
    const values = Array.from(parameters.matchAll(/(\w+)=([\d.]+)/g), ([, key, value]) => [key, Number(value)]);
    const { start, dur } = Object.fromEntries(values);
    timing.set(Number(index), start === undefined || dur === undefined ? null : { start, end: start + dur });
  }
  return timing;
}

/** About four round numbers from 0 up to `end`. */
function ticksTo(end) {
  const rough = end / 4;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((factor) => factor * power >= rough);
  return Array.from({ length: Math.floor(end / step) + 1 }, (_, index) => index * step);
}

function sentence(action, result, span) {
  const ran = span ? `started at ${milliseconds(span.start)}, took ${milliseconds(span.end - span.start)}` : "did not run";
  return `${action.method} ${relativePath(action)}: ${result.status}, ${ran}`;
}

/** The figure; `go` is called with the index of the action whose lane was picked. */
function timelineOf(actions, results, timing, go) {
  const spans = [...timing.values()].filter((span) => span !== null);
  const end = Math.max(...spans.map((span) => span.end), 0.1);
  const together = end - Math.min(...spans.map((span) => span.start), end);
  const alone = spans.reduce((sum, span) => sum + span.end - span.start, 0);
  const place = (element, from, to) => {
    element.style.left = `${(from / end) * 100}%`;
    if (to !== undefined) element.style.width = `${((to - from) / end) * 100}%`;
    return element;
  };
  const slowest = spans.length > 1 ? Math.max(...spans.map((span) => span.end - span.start)) : Infinity;
  let marked = false;
  const lane = (action, index) => {
    const result = results[index];
    const span = timing.get(index) ?? null;
    const track = h("span", { class: "track", "aria-hidden": "true" });
    const isSlowest = span !== null && !marked && span.end - span.start === slowest;
    if (span !== null) {
      const bar = h("span", { class: `bar ${family(result.status)}` });
      if (isSlowest) bar.append(h("span", { class: "tag" }, "slowest"));
      marked ||= isSlowest;
      track.append(place(bar, span.start, span.end));
    } else {
      track.append(h("span", { class: "still" }, "did not run"));
    }
    return h("li", {}, h("button", { type: "button", class: "lane", click: () => go(index) },
      h("span", { class: "what", "aria-hidden": "true" },
        h("span", { class: "number" }, index + 1), h("span", { class: `method ${action.method}` }, action.method),
        h("span", { class: "mono path" }, relativePath(action))),
      track,
      h("span", { class: "took mono", "aria-hidden": "true" }, span === null ? "–" : milliseconds(span.end - span.start)),
      hiddenText(`Action ${index + 1}: ${sentence(action, result, span)}${isSlowest ? ", the slowest" : ""}`)));
  };
  const steps = ticksTo(end);
  const ticks = steps.map((tick) =>
    place(h("span", { class: tick > end * 0.9 ? "tick last" : "tick" }, milliseconds(tick).replace(".0 ", " ")), tick));
  const summary = h("p", { class: "summary" }, h("strong", {}, milliseconds(together)));
  if (alone / together >= 1.05) {
    summary.append(" for what takes ", h("strong", {}, milliseconds(alone)), " one after another",
      h("span", { class: "gain" }, `${(alone / together).toFixed(1)} × faster`));
  } else {
    summary.append(spans.length > 1 ? " in all: these actions hardly wait, so there is little to overlap" : " in all");
  }
  const lanes = h("ol", { class: "lanes" }, ...actions.map(lane));
  lanes.style.setProperty("--step", `${(steps[1] / end) * 100}%`);
  return h("section", { class: "timeline", "aria-label": "Timeline" }, summary,
    h("div", { class: "axis", "aria-hidden": "true" }, h("div", { class: "ticks" }, ...ticks)), lanes);
}
