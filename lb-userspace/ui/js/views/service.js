// One service: its hosts, and who has how much of its ring.

import { refusal } from "../dialog.js";
import { donut } from "../donut.js";
import { h, redraw } from "../dom.js";
import { count, phases, rate, bytes, stateOf } from "../format.js";
import { badge, facts, hostLink, kindOf } from "../parts.js";
import { state } from "../state.js";
import { table } from "../table.js";
import { watch } from "../watch.js";

export function service(name) {
  const about = h("div");
  const picture = h("div", { class: "ring-picture" });
  const trouble = h("div");
  let backends = new Map();
  const grid = table({
    name: "Hosts", one: "host", label: `Hosts of ${name}`,
    rows: () => backends,
    words: (_, host) => host,
    sort: ["Host", false],
    empty: "It has no hosts.",
    columns: [
      { name: "Host", head: true, sort: (_, host) => host, mark: (_, host) => host, draw: (_, host) => hostLink(host) },
      { name: "State", sort: (row, host) => wordOf(row, host), mark: wordOf, draw: (row, host) => badge(wordOf(row, host)) },
      { name: "Address", sort: (row) => row.address, text: (row) => row.address },
      { name: "Live flows", numeric: true, sort: (row) => row.live_flows.total, text: (row) => count(row.live_flows.total) },
      { name: "New/s", numeric: true, sort: (row) => row.traffic.new_flows_per_second, text: (row) => rate(row.traffic.new_flows_per_second) },
      { name: "Packets/s", numeric: true, sort: (row) => row.traffic.packets_per_second, text: (row) => rate(row.traffic.packets_per_second) },
      { name: "Next hop", wide: true, sort: (row) => row.next_hop, text: (row) => row.next_hop },
    ],
  });
  const watched = watch(`/page/service/${encodeURIComponent(name)}`, 3000, (answer) => {
    trouble.replaceChildren();
    backends = new Map(answer.backends.map((row) => [row.host, row]));
    grid.update();
  }, (error) => trouble.replaceChildren(refusal(error)));
  return {
    title: name,
    root: h("section", { "aria-labelledby": "title" },
      h("p", { class: "crumb" }, h("a", { href: "#/services", text: "Services" })),
      h("h1", { id: "title", tabindex: "-1", text: name }), trouble,
      h("div", { class: "with-picture" }, picture, about),
      h("h2", { text: "Hosts" }), grid.root),
    close: watched.close,
    update() {
      const row = state.services.get(name);
      redraw(about, row, () => row && facts([
        ["VIP", `${row.vip} ${row.protocols} ${row.ports}`],
        ["Forward", row.forward],
        ["Hosts in use", `${count(row.in_use)} of ${count(row.hosts)}`],
        ["Live flows", `${count(row.live[0])}${row.live[0] ? ` (${phases(row.live)})` : ""}`],
        ["New flows", `${rate(row.rates[0])}/s`],
        ["Traffic", `${rate(row.rates[1])} packets/s, ${bytes(row.rates[2])}/s`],
        row.shift && ["Shift", `${row.shift}: see sluice shift`],
        ["Ring", h("a", { href: `#/shares/${row.ring}`, text: `ring ${row.ring}` })],
      ]));
      const ring = row && state.rings.get(String(row.ring));
      const kind = (host) => kindOf(state.hosts.has(host) ? stateOf(state.hosts.get(host)) : "drained");
      redraw(picture, ring && [ring.members, ring.members.map(([host]) => kind(host))], () => ring && donut({ ...ring, kind, href: (host) => `#/hosts/${encodeURIComponent(host)}` }));
      grid.update();
    },
  };
}

/** For this service alone it may be out, too. */
function wordOf(row, host) {
  if (row.drain && row.drain.state !== "undrained") return row.drain.state;
  const known = state.hosts.get(host);
  return known ? stateOf({ ...known, down_for: [] }) : "not known yet";
}
