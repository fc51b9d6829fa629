// One host: its drain, its services, its checks.

import { refusal } from "../dialog.js";
import { h, redraw } from "../dom.js";
import { count, duration, moment, percent, phases, rate, bytes } from "../format.js";
import { badge, drainCard, facts, hostAct, hostState, serviceLink } from "../parts.js";
import { now, state } from "../state.js";
import { table } from "../table.js";
import { watch } from "../watch.js";

export function host(name) {
  const head = h("div", { class: "page-head" });
  const about = h("div");
  const drains = h("div", { class: "cards" });
  const cards = new Map();
  const checks = h("div");
  const trouble = h("div");
  let backends = new Map();
  const services = table({
    name: "Services", one: "service", label: `Services of ${name}`,
    rows: () => backends,
    words: (_, service) => service,
    sort: ["Service", false],
    empty: "It has no service.",
    columns: [
      { name: "Service", head: true, sort: (_, service) => service, mark: (_, service) => service, draw: (_, service) => serviceLink(service) },
      { name: "VIP", sort: (row) => row.vip, text: (row) => row.vip },
      { name: "Address", sort: (row) => row.address, text: (row) => row.address },
      { name: "Live flows", numeric: true, sort: (row) => row.live_flows.total, text: (row) => count(row.live_flows.total) },
      { name: "New/s", numeric: true, sort: (row) => row.traffic.new_flows_per_second, text: (row) => rate(row.traffic.new_flows_per_second) },
      { name: "Packets/s", numeric: true, sort: (row) => row.traffic.packets_per_second, text: (row) => rate(row.traffic.packets_per_second) },
      { name: "Next hop", wide: true, sort: (row) => row.next_hop, text: (row) => row.next_hop },
    ],
  });
  const watched = watch(`/page/host/${encodeURIComponent(name)}`, 3000, (answer) => {
    trouble.replaceChildren();
    backends = new Map(answer.backends.map((row) => [row.service, row]));
    services.update();
    redraw(checks, answer.checks.map((of) => [of.service, of.check, of.oper, of.why, of.results?.[0]?.at]), () => checkList(answer.checks));
  }, (error) => trouble.replaceChildren(refusal(error)));
  return {
    title: name,
    root: h("section", { "aria-labelledby": "title" },
      h("p", { class: "crumb" }, h("a", { href: "#/hosts", text: "Hosts" })),
      head, trouble, about, drains,
      h("h2", { text: "Services" }), services.root, checks),
    close: watched.close,
    update() {
      const row = state.hosts.get(name);
      redraw(head, row && [row.admin, row.oper, row.down_for.length, row.ramp?.share], () => [
        h("h1", { id: "title", tabindex: "-1" }, name), row && h("p", { class: "page-state" }, hostState(row)), row && hostAct(name, row),
      ]);
      redraw(about, row, () => row && facts([
        ["Live flows", `${count(row.live[0])}${row.live[0] ? ` (${phases(row.live)})` : ""}`],
        ["Share of slots", percent(row.share)],
        ["New flows", `${rate(row.rates[0])}/s`],
        ["Traffic", `${rate(row.rates[1])} packets/s, ${bytes(row.rates[2])}/s`],
        ["Weight", count(row.weight)],
        row.ramp && ["Coming back", `${Math.round(row.ramp.share * 100)} % of its share, in full in ${duration(row.ramp.full_in)}${row.ramp.paused ? `; paused: ${row.ramp.paused}` : ""}`],
        row.down_for.length > 0 && ["Down for", row.down_for.join(", ")],
      ]));
      const own = [...state.drains].filter(([, drain]) => drain.host === name);
      for (const [id, card] of cards) {
        if (own.some(([other]) => other === id)) continue;
        card.root.remove();
        cards.delete(id);
      }
      for (const [id, drain] of own) {
        if (!cards.has(id)) {
          cards.set(id, drainCard(id, { withHost: false }));
          drains.append(cards.get(id).root);
        }
        cards.get(id).update(drain);
      }
      services.update();
    },
  };
}

function checkList(checks) {
  if (checks.length === 0) return h("p", { class: "muted", text: "No check asks how it is." });
  return [
    h("h2", { text: "Checks" }),
    h("ul", { class: "list" }, checks.map((check) => h("li", {},
      h("div", {}, badge(check.oper === "up" ? "in use" : check.oper === "down" ? "down" : "not known yet"), " ", serviceLink(check.service), ` ${check.check}`),
      h("p", { class: "muted", text: `${check.why}${check.since ? `, since ${moment(check.since)}` : ""}; ${count(check.streak)} in a row${check.held_until ? `; held down for ${duration(check.held_until - now())}` : ""}` }),
      h("ol", { class: "runs", "aria-label": "The last runs, the latest first" }, check.results.map((run) => h("li", { class: `run run-${run.outcome}` },
        h("span", { class: "unseen", text: `${run.outcome}: ${run.why}, ${run.took_ms.toFixed(1)} ms` }))))))),
  ];
}

