// All hosts: who has how much, who is out, and what can be done with them.

import { drain, undrain } from "../act.js";
import { h } from "../dom.js";
import { count, isOut, rate, stateOf } from "../format.js";
import { hostAct, hostLink, hostState, liveText, shareBar } from "../parts.js";
import { state } from "../state.js";
import { table } from "../table.js";

const RANK = { down: 0, "down in part": 1, draining: 2, drained: 3, "coming back": 4, "not known yet": 5, disabled: 6, "in use": 7 };

export function hosts() {
  const acts = h("div", { class: "bulk", hidden: true });
  let most = 1;
  const grid = table({
    name: "Hosts",
    one: "host",
    rows: () => state.hosts,
    words: (row, name) => `${name} ${stateOf(row)}`,
    sort: ["Host", false],
    empty: "The config has no hosts yet.",
    filters: [
      { name: "all" },
      { name: "out of service", fits: isOut },
      { name: "with trouble", fits: (row) => row.oper !== "up" || row.down_for.length > 0 },
      { name: "in use", fits: (row) => row.admin === "active" && row.oper !== "down" },
    ],
    choose: (chosen) => {
      acts.hidden = chosen.length === 0;
      const out = chosen.filter((name) => isOut(state.hosts.get(name)));
      const inUse = chosen.filter((name) => !isOut(state.hosts.get(name)));
      acts.replaceChildren(
        h("span", { text: `${count(chosen.length)} chosen` }),
        ...[
          inUse.length > 0 && h("button", { type: "button", text: `Drain ${count(inUse.length)}`, onclick: () => drain(inUse) }),
          out.length > 0 && h("button", { type: "button", text: `Take back ${count(out.length)}`, onclick: () => undrain(out) }),
          h("button", { type: "button", class: "quiet", text: "Choose none", onclick: () => grid.unchoose() }),
        ].filter(Boolean));
    },
    columns: [
      { name: "Host", head: true, sort: (_, name) => name.toLowerCase().replace(/\d+/g, (n) => n.padStart(8, "0")), mark: (_, name) => name, draw: (_, name) => hostLink(name) },
      { name: "State", sort: (row) => RANK[stateOf(row)], mark: (row) => [stateOf(row), row.oper, row.down_for.length, row.ramp?.share], draw: hostState },
      { name: "Share", numeric: true, wide: true, sort: (row) => row.share, mark: (row) => [row.share, most], draw: (row) => shareBar(row.share, most) },
      { name: "Live flows", numeric: true, sort: (row) => row.live[0], text: (row) => liveText(row.live) },
      { name: "New/s", numeric: true, sort: (row) => row.rates[0], text: (row) => rate(row.rates[0]) },
      { name: "Packets/s", numeric: true, sort: (row) => row.rates[1], text: (row) => rate(row.rates[1]) },
      { name: "Services", numeric: true, sort: (row) => row.services, text: (row) => count(row.services) },
      { name: "Action", silent: true, act: true, mark: (row, name) => [name, row.admin], draw: (row, name) => hostAct(name, row) },
    ],
  });
  return {
    title: "Hosts",
    root: h("section", { "aria-labelledby": "title" }, h("h1", { id: "title", tabindex: "-1", text: "Hosts" }), grid.root, acts),
    update() {
      most = Math.max(0.0001, ...[...state.hosts.values()].map((row) => row.share));
      grid.update();
    },
  };
}
