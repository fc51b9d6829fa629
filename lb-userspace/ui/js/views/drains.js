// Drains under way, each with its flows over time; and who is out.

import { undrain } from "../act.js";
import { h } from "../dom.js";
import { count, duration } from "../format.js";
import { drainCard, hostLink, time } from "../parts.js";
import { now, state } from "../state.js";
import { table } from "../table.js";

/** Cards at once; of a hundred drains the table has the rest. */
const CARDS = 12;

export function drains() {
  const cards = new Map();
  const deck = h("div", { class: "cards" });
  const none = h("p", { class: "none", text: "No drain is under way." });
  const more = h("p", { class: "muted", hidden: true });
  const rows = () => new Map([...state.drains].filter(([, drain]) => drain.state === "drained" || !cards.has(String(drain.id))));
  const grid = table({
    name: "Hosts that are out", one: "drain",
    rows,
    words: (row) => `${row.host} ${row.by} ${row.reason ?? ""} ${row.service ?? ""}`,
    sort: ["Since", true],
    empty: "No host is out.",
    columns: [
      { name: "Host", head: true, sort: (row) => row.host, mark: (row) => row.host, draw: (row) => hostLink(row.host) },
      { name: "Drain", numeric: true, sort: (row) => row.id, mark: (row) => [row.id, !!row.receipt], draw: (row) => (row.receipt ? h("a", { href: `#/receipts/${row.id}`, "aria-label": `Receipt ${row.id}`, text: row.id }) : String(row.id)) },
      { name: "Of", sort: (row) => row.service ?? "", text: (row) => [row.service ?? "all services", row.clients && `clients ${row.clients}`].filter(Boolean).join(", ") },
      { name: "Live flows", numeric: true, sort: (row) => row.live_flows.total, text: (row) => count(row.live_flows.total) },
      { name: "Since", sort: (row) => row.started_at, mark: (row) => row.started_at, draw: (row) => time(row.started_at) },
      { name: "Out for", numeric: true, sort: (row) => -row.started_at, text: (row) => duration(now() - row.started_at) },
      { name: "By", wide: true, sort: (row) => row.by, text: (row) => `${row.by}${row.reason ? `: ${row.reason}` : ""}` },
      { name: "Action", silent: true, act: true, mark: (row) => [row.host, row.service, row.clients], draw: (row) => h("button", { type: "button", class: "act", "aria-label": `Take back ${row.host}`, onclick: () => undrain([row.host], row), text: "Take back" }) },
    ],
  });
  return {
    title: "Drains",
    root: h("section", { "aria-labelledby": "title" }, h("h1", { id: "title", tabindex: "-1", text: "Drains" }), none, deck, more, h("h2", { text: "Out of service" }), grid.root),
    update() {
      const under = [...state.drains].filter(([, drain]) => drain.state === "draining").sort(([, a], [, b]) => a.started_at - b.started_at || a.id - b.id);
      const shown = under.slice(0, CARDS);
      for (const [id, card] of cards) {
        if (shown.some(([other]) => other === id)) continue;
        card.root.remove();
        cards.delete(id);
      }
      for (const [id, drain] of shown) {
        if (!cards.has(id)) {
          cards.set(id, drainCard(id));
          deck.append(cards.get(id).root);
        }
        cards.get(id).update(drain);
      }
      none.hidden = under.length > 0;
      more.hidden = under.length <= CARDS;
      more.textContent = `${count(under.length - CARDS)} more are in the table.`;
      grid.update();
    },
  };
}
