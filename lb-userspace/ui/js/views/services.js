// All services: what clients reach, and how many hosts serve it.

import { h } from "../dom.js";
import { count, rate } from "../format.js";
import { liveText, serviceLink } from "../parts.js";
import { state } from "../state.js";
import { table } from "../table.js";

export function services() {
  const grid = table({
    name: "Services",
    one: "service",
    rows: () => state.services,
    words: (row, name) => `${name} ${row.vip} ${row.protocols} ${row.ports} ${row.forward}`,
    sort: ["Service", false],
    empty: "The config has no services yet.",
    filters: [
      { name: "all" },
      { name: "short of hosts", fits: (row) => row.in_use < row.hosts },
      { name: "with nobody", fits: (row) => row.in_use === 0 },
    ],
    columns: [
      { name: "Service", head: true, sort: (_, name) => name.toLowerCase().replace(/\d+/g, (n) => n.padStart(8, "0")), mark: (_, name) => name, draw: (_, name) => serviceLink(name) },
      { name: "VIP", wide: true, sort: (row) => row.vip, text: (row) => row.vip },
      { name: "Port", sort: (row) => `${row.protocols} ${row.ports}`, text: (row) => `${row.protocols} ${row.ports}` },
      { name: "Forward", sort: (row) => row.forward, text: (row) => row.forward },
      {
        name: "Hosts in use", numeric: true, sort: (row) => row.in_use / Math.max(1, row.hosts),
        mark: (row) => [row.in_use, row.hosts],
        draw: (row) => h("span", { class: row.in_use === 0 ? "bad" : row.in_use < row.hosts ? "warn" : null, text: `${count(row.in_use)} of ${count(row.hosts)}` }),
      },
      { name: "Live flows", numeric: true, sort: (row) => row.live[0], text: (row) => liveText(row.live) },
      { name: "New/s", numeric: true, sort: (row) => row.rates[0], text: (row) => rate(row.rates[0]) },
      { name: "Packets/s", numeric: true, sort: (row) => row.rates[1], text: (row) => rate(row.rates[1]) },
      { name: "Ring", numeric: true, sort: (row) => row.ring, mark: (row) => row.ring, draw: (row) => h("a", { href: `#/shares/${row.ring}`, "aria-label": `Ring ${row.ring}`, text: row.ring }) },
    ],
  });
  return {
    title: "Services",
    root: h("section", { "aria-labelledby": "title" }, h("h1", { id: "title", tabindex: "-1", text: "Services" }), grid.root),
    update: grid.update,
  };
}
