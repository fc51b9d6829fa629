// All hosts: who has how much, who is out, and what can be done with them.

import { drain, undrain } from "../act.js";
import { h, redraw } from "../dom.js";
import { count, isOut, rate, stateOf } from "../format.js";
import { hostAct, hostLink, hostState, liveText, shareBar } from "../parts.js";
import { state } from "../state.js";
import { table } from "../table.js";

const RANK = { down: 0, "down in part": 1, draining: 2, drained: 3, "coming back": 4, "not known yet": 5, disabled: 6, "in use": 7 };

export function hosts() {
  const acts = h("div", { class: "bulk", hidden: true });
  // Asked for again when it is clicked: meanwhile others may have drained some of them.
  const picked = (isWanted) => grid.chosen().filter((name) => isWanted(state.hosts.get(name)));
  const canDrain = (row) => row.admin === "active";
  const act = (what, isWanted) => () => {
    const names = picked(isWanted);
    if (names.length > 0) what(names, { hidden: grid.hidden(names) });
  };
  const offer = () => {
    const [chosen, inUse, out] = [grid.chosen(), picked(canDrain), picked(isOut)].map((list) => list.length);
    acts.hidden = chosen === 0;
    redraw(acts, [chosen, inUse, out], () => [
      h("span", { text: `${count(chosen)} chosen` }),
      inUse > 0 && h("button", { type: "button", text: `Drain ${count(inUse)}`, onclick: act(drain, canDrain) }),
      out > 0 && h("button", { type: "button", text: `Take back ${count(out)}`, onclick: act(undrain, isOut) }),
      h("button", { type: "button", class: "quiet", text: "Choose none", onclick: () => grid.unchoose() }),
    ]);
  };
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
    choose: offer,
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
      offer();
    },
  };
}
