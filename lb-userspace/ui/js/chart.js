// Live flows of a drain over time: what was, and when the rest is expected to end.

import { s } from "./dom.js";
import { count, duration } from "./format.js";

const WIDTH = 640;
const HEIGHT = 150;
const LEFT = 2;
const RIGHT = 2;
const TOP = 12;
const BOTTOM = 24;

/** A round figure not below `n`: 1, 2 or 5 times a power of ten. */
function ceiling(n) {
  const power = 10 ** Math.floor(Math.log10(Math.max(1, n)));
  return [1, 2, 5, 10].map((k) => k * power).find((k) => k >= n) ?? 10 * power;
}

/** `points`: [Unix seconds, flows]; `expected`: seconds from now until 50, 90 and 99 of 100 have ended. */
export function chart({ points, now, expected = null, deadline = null, title }) {
  const first = points[0]?.[0] ?? now;
  const left = points.at(-1)?.[1] ?? 0;
  const guesses = left > 0 && expected ? [[expected.p50, 0.5], [expected.p90, 0.1], [expected.p99, 0.01]].filter(([at]) => at !== null && at !== undefined) : [];
  // What is expected late must not squeeze what was.
  const past = Math.max(10, now - first);
  const ahead = Math.min(guesses.at(-1)?.[0] ?? 0, Math.max(past * 1.5, 20));
  const end = first + past + ahead;
  const top = ceiling(Math.max(1, ...points.map(([, n]) => n)));
  const x = (at) => LEFT + ((at - first) / (end - first)) * (WIDTH - LEFT - RIGHT);
  const y = (n) => TOP + (1 - n / top) * (HEIGHT - TOP - BOTTOM);
  const at = ([t, n]) => `${x(t).toFixed(1)} ${y(n).toFixed(1)}`;
  const all = [...points, [now, left]];
  const line = `M${all.map(at).join("L")}`;
  const area = `${line}L${x(now).toFixed(1)} ${y(0)}L${x(first).toFixed(1)} ${y(0)}Z`;
  const ahead_points = [[now, left]];
  for (const [after, part] of guesses) {
    const last = ahead_points.at(-1);
    const next = [now + after, left * part];
    if (next[0] <= end) ahead_points.push(next);
    else {
      // As far as there is room.
      const k = (end - last[0]) / (next[0] - last[0]);
      ahead_points.push([end, last[1] + (next[1] - last[1]) * k]);
      break;
    }
  }
  const isAhead = deadline !== null && deadline > first && deadline < end;
  return s("svg", { class: "chart", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": title, preserveAspectRatio: "none" },
    [0, 0.5, 1].map((k) => s("path", { class: "chart-grid", d: `M${LEFT} ${y(top * k)}H${WIDTH - RIGHT}` })),
    s("path", { class: "chart-area", d: area }),
    s("path", { class: "chart-line", d: line }),
    ahead_points.length > 1 && s("path", { class: "chart-ahead", d: `M${ahead_points.map(at).join("L")}` }),
    isAhead && s("path", { class: "chart-deadline", d: `M${x(deadline)} ${TOP}V${y(0)}` }),
    s("circle", { class: "chart-now", cx: x(now), cy: y(left), r: 3.5 }));
}

/** The chart with its axes in text, which is not stretched with it. */
export function axes({ points, now, expected }) {
  const first = points[0]?.[0] ?? now;
  return { top: count(ceiling(Math.max(1, ...points.map(([, n]) => n)))), from: `${duration(now - first)} ago`, expected };
}

/** A small line without axes. */
export function spark(points, title) {
  if (points.length < 2) return s("svg", { class: "spark", viewBox: "0 0 100 24", role: "img", "aria-label": title });
  const [first, last] = [points[0][0], points.at(-1)[0]];
  const top = Math.max(1, ...points.map(([, n]) => n));
  const at = ([t, n]) => `${((100 * (t - first)) / Math.max(1, last - first)).toFixed(1)} ${(22 - (20 * n) / top).toFixed(1)}`;
  const line = `M${points.map(at).join("L")}`;
  return s("svg", { class: "spark", viewBox: "0 0 100 24", role: "img", "aria-label": title, preserveAspectRatio: "none" },
    s("path", { class: "chart-area", d: `${line}L100 23L0 23Z` }), s("path", { class: "chart-line", d: line }));
}
