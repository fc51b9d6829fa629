// Receipts: what became of the flows of drains that are over.

import { ApiError, get } from "../api.js";
import { refusal } from "../dialog.js";
import { h } from "../dom.js";
import { bytes, count, duration, plural, rate } from "../format.js";
import { facts, hostLink, time } from "../parts.js";
import { state } from "../state.js";
import { table } from "../table.js";

const WORDS = { drained: "drained", moved: "moved", reset: "reset", undrained: "taken back", lease_over: "lease over" };

export function receipts() {
  const trouble = h("div");
  let rows = new Map();
  let seen = null;
  const grid = table({
    name: "Receipts", one: "receipt",
    rows: () => rows,
    words: (row) => `${row.host} ${row.by} ${row.reason ?? ""} ${row.outcome} ${row.service ?? ""}`,
    sort: ["Ended", true],
    empty: "No drain is over yet.",
    filters: [{ name: "all" }, { name: "not sound", fits: (row) => !isSound(row) }],
    columns: [
      { name: "Drain", head: true, numeric: true, sort: (row) => row.drain, mark: (row) => row.drain, draw: (row) => h("a", { href: `#/receipts/${row.drain}`, "aria-label": `Receipt ${row.drain}`, text: row.drain }) },
      { name: "Host", sort: (row) => row.host, mark: (row) => row.host, draw: (row) => hostLink(row.host) },
      { name: "Outcome", sort: (row) => row.outcome, mark: (row) => [row.outcome, isSound(row)], draw: (row) => [h("span", { text: WORDS[row.outcome] }), !isSound(row) && h("strong", { class: "bad", text: " not sound" })] },
      { name: "Flows", wide: true, sort: (row) => row.flows_at_start, mark: (row) => row.drain, draw: balance },
      { name: "At start", numeric: true, sort: (row) => row.flows_at_start, text: (row) => count(row.flows_at_start) },
      { name: "Took", numeric: true, sort: (row) => row.ended_at - row.started_at, text: (row) => duration(row.ended_at - row.started_at) },
      { name: "Ended", sort: (row) => row.ended_at, mark: (row) => row.ended_at, draw: (row) => time(row.ended_at) },
      { name: "By", sort: (row) => row.by, text: (row) => `${row.by}${row.reason ? `: ${row.reason}` : ""}` },
    ],
  });
  async function load() {
    try {
      const answer = await get("/v1/receipts?limit=1000");
      rows = new Map(answer.receipts.map((row) => [String(row.drain), row]));
      trouble.replaceChildren();
      grid.update();
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      trouble.replaceChildren(refusal(error));
    }
  }
  return {
    title: "Receipts",
    root: h("section", { "aria-labelledby": "title" }, h("h1", { id: "title", tabindex: "-1", text: "Receipts" }), trouble, grid.root),
    update() {
      const revision = state.head?.revision ?? null;
      if (revision !== seen) {
        seen = revision;
        load();
      }
      grid.update();
    },
  };
}

const PARTS = [["ended", "ended by themselves"], ["moved", "moved"], ["reset", "reset"], ["silent", "fell silent"], ["kicked", "kicked"], ["evicted", "evicted"], ["left", "left when it was taken back"]];

export const isSound = (row) => row.new_flows === 0 && row.misrouted === 0 && Object.keys(row.violations ?? {}).length === 0;

/** What became of the flows, as a bar. */
function balance(row) {
  const parts = PARTS.filter(([key]) => row[key] > 0);
  const all = parts.reduce((sum, [key]) => sum + row[key], 0);
  const words = parts.map(([key, name]) => `${count(row[key])} ${name}`).join(", ") || "there were none";
  return h("span", { class: "balance", role: "img", "aria-label": words, title: words }, parts.map(([key]) => h("span", { class: `balance-${key}`, style: { width: `${(100 * row[key]) / all}%` } })));
}

export function receipt(id) {
  const body = h("div");
  get(`/v1/receipts/${encodeURIComponent(id)}`).then((row) => {
    body.replaceChildren(
      h("p", { class: isSound(row) ? "sound" : "refusal", text: isSound(row) ? "Sound: no new flow reached the host, and no packet went to another backend than its flow's." : "Not sound: counters that must be 0 are not." }),
      h("div", { class: "balance-large" }, balance(row)),
      facts([
        ["Host", hostLink(row.host)],
        row.service && ["Service", row.service],
        row.clients && ["Clients", row.clients],
        ["Outcome", WORDS[row.outcome]],
        ["By", `${row.by}${row.reason ? `: ${row.reason}` : ""}`],
        ["Began", time(row.started_at)],
        ["Ended", h("span", {}, time(row.ended_at), `, after ${duration(row.ended_at - row.started_at)}`)],
        ["Flows at the start", count(row.flows_at_start)],
        row.appeared > 0 && ["Appeared", count(row.appeared)],
        ...PARTS.filter(([key]) => row[key] > 0).map(([key, name]) => [name[0].toUpperCase() + name.slice(1), count(row[key])]),
        ["New flows (must be 0)", count(row.new_flows)],
        ["Misrouted packets (must be 0)", count(row.misrouted)],
        ...Object.entries(row.violations ?? {}).map(([name, n]) => [`${name} (must be 0)`, count(n)]),
        ["Traffic meanwhile", `${plural(row.packets, "packet")}, ${bytes(row.bytes)}; ${rate(row.packets_per_second)} packets/s`],
        row.durations && ["How long its flows were", `half up to ${duration(row.durations.p50)}, 99 of 100 up to ${duration(row.durations.p99)}`],
      ]));
  }).catch((error) => body.replaceChildren(refusal(error)));
  return {
    title: `Receipt ${id}`,
    root: h("section", { "aria-labelledby": "title" }, h("p", { class: "crumb" }, h("a", { href: "#/receipts", text: "Receipts" })), h("h1", { id: "title", tabindex: "-1", text: `Receipt ${id}` }), body),
    update() {},
  };
}

