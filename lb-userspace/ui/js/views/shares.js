// Rings as pictures: who has how much, and what it would be if all were in use.

import { donut } from "../donut.js";
import { h, redraw, write } from "../dom.js";
import { count, percent, plural, stateOf } from "../format.js";
import { badge, hostLink, kindOf, links, serviceLink, shareBar } from "../parts.js";
import { state } from "../state.js";
import { table } from "../table.js";

export function shares(wanted = null) {
  let id = wanted;
  const picker = h("select", { "aria-label": "Ring" });
  const picture = h("div", { class: "ring-picture large" });
  const about = h("p", { class: "muted" });
  const of = h("p");
  let members = new Map();
  let most = 1;
  let size = 1;
  const wordOf = (host) => (state.hosts.has(host) ? stateOf(state.hosts.get(host)) : "drained");
  const grid = table({
    name: "Members", one: "host",
    rows: () => members,
    words: (_, host) => `${host} ${wordOf(host)}`,
    sort: ["Host", false],
    empty: "The ring has no members.",
    columns: [
      { name: "Host", head: true, sort: (_, host) => host.toLowerCase().replace(/\d+/g, (n) => n.padStart(8, "0")), mark: (_, host) => host, draw: (_, host) => hostLink(host) },
      { name: "State", sort: (_, host) => wordOf(host), mark: (_, host) => wordOf(host), draw: (_, host) => badge(wordOf(host)) },
      { name: "Share now", numeric: true, wide: true, sort: (row) => row[0], mark: (row) => [row[0], most, size], draw: (row) => shareBar(row[0] / size, most / size) },
      { name: "Slots", numeric: true, sort: (row) => row[0], text: (row) => count(row[0]) },
      { name: "If all were in use", numeric: true, sort: (row) => row[1], text: (row) => percent(row[1] / size) },
      { name: "Carries more", numeric: true, sort: (row) => row[0] - row[1], text: (row) => { const more = row[0] - row[1]; return more === 0 ? "–" : `${more > 0 ? "+" : "−"}${count(Math.abs(more))}`; } },
    ],
  });
  picker.addEventListener("change", () => { location.hash = `#/shares/${picker.value}`; });
  return {
    title: "Shares",
    root: h("section", { "aria-labelledby": "title" },
      h("div", { class: "page-head" }, h("h1", { id: "title", tabindex: "-1", text: "Shares" }), picker),
      h("div", { class: "with-picture" }, picture, h("div", {}, of, about, legend())), grid.root),
    update() {
      const ids = [...state.rings.keys()].sort((a, b) => a - b);
      if (id === null || !state.rings.has(id)) id = ids[0] ?? null;
      redraw(picker, [ids, id], () => ids.map((ring) => h("option", { value: ring, selected: ring === id, text: `Ring ${ring}: ${plural(state.rings.get(ring).services.length, "service")}, ${plural(state.rings.get(ring).members.length, "host")}` })));
      picker.hidden = ids.length < 2;
      const ring = state.rings.get(id);
      if (!ring) return;
      size = ring.size;
      members = new Map(ring.members.map(([host, slots, base]) => [host, [slots, base]]));
      most = Math.max(1, ...ring.members.flatMap(([, slots, base]) => [slots, base]));
      redraw(of, ring.services, () => [`Ring ${id} is that of `, links(ring.services, serviceLink, 8), "."]);
      write(about, `${plural(ring.size, "slot")}, generation ${count(ring.generation)}${ring.open_slots > 0 ? `; ${plural(ring.open_slots, "slot")} with a handover under way` : "; no handover is under way"}`);
      const kind = (host) => kindOf(wordOf(host));
      redraw(picture, [ring.members, ring.members.map(([host]) => kind(host))], () => donut({ ...ring, kind, href: (host) => `#/hosts/${encodeURIComponent(host)}` }));
      grid.update();
    },
  };
}

function legend() {
  return h("ul", { class: "legend", "aria-label": "How to read the picture" },
    h("li", {}, h("span", { class: "swatch swatch-now", "aria-hidden": "true" }), "outer band: slots as they are now"),
    h("li", {}, h("span", { class: "swatch swatch-base", "aria-hidden": "true" }), "inner band: if every host were in use"),
    h("li", {}, h("span", { class: "swatch swatch-draining", "aria-hidden": "true" }), "draining"),
    h("li", {}, h("span", { class: "swatch swatch-back", "aria-hidden": "true" }), "coming back"),
    h("li", {}, h("span", { class: "swatch swatch-drained", "aria-hidden": "true" }), "drained, or disabled"),
    h("li", {}, h("span", { class: "swatch swatch-down", "aria-hidden": "true" }), "down"));
}
