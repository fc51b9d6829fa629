// Who has how much of a ring. The outer band is as it is now, the inner one as it would be if every host were in use: a host that is out is
// missing outside and still there inside, so what the others carry for it can be seen.

import { s } from "./dom.js";
import { percent, plural } from "./format.js";

const TURN = 2 * Math.PI;

/** A piece of a band between two radii, from one part of the turn to another. */
function piece(from, to, inner, outer) {
  // A whole turn has no beginning that an arc could have.
  const end = Math.min(to, from + 0.99999);
  const at = (part, radius) => `${(100 + radius * Math.sin(part * TURN)).toFixed(2)} ${(100 - radius * Math.cos(part * TURN)).toFixed(2)}`;
  const far = end - from > 0.5 ? 1 : 0;
  return `M${at(from, outer)}A${outer} ${outer} 0 ${far} 1 ${at(end, outer)}L${at(end, inner)}A${inner} ${inner} 0 ${far} 0 ${at(from, inner)}Z`;
}

/** `members`: [host, slots, slots when all are in use]; `kind(host)`: its state, by which it is coloured. */
export function donut({ size, members, kind, href, chosen = null }) {
  const bands = [];
  const band = (of, inner, outer, name) => {
    let from = 0;
    members.forEach(([host, ...slots], n) => {
      const part = slots[of] / size;
      if (part === 0) return;
      const path = s("path", {
        class: `piece piece-${name} kind-${kind(host)} shade-${n % 4}${host === chosen ? " is-chosen" : ""}`,
        d: piece(from, from + part, inner, outer),
      }, s("title", { text: `${host}: ${percent(part)}${name === "base" ? " when every host is in use" : ""}` }));
      bands.push(href && name === "now" ? s("a", { href: href(host), tabindex: "-1", "aria-hidden": "true" }, path) : path);
      from += part;
    });
    if (from < 0.9999 && name === "now") bands.push(s("path", { class: "piece piece-nobody", d: piece(from, 1, inner, outer) }, s("title", { text: "nobody" })));
  };
  band(0, 66, 96, "now");
  band(1, 54, 62, "base");
  const using = members.filter(([, slots]) => slots > 0).length;
  return s("svg", { class: "donut", viewBox: "0 0 200 200", role: "img", "aria-label": `${plural(using, "host")} of ${members.length} have slots; the table has each share` },
    bands,
    s("text", { class: "donut-figure", x: 100, y: 100, "text-anchor": "middle" }, `${using}/${members.length}`),
    s("text", { class: "donut-words", x: 100, y: 118, "text-anchor": "middle" }, "hosts in use"));
}
