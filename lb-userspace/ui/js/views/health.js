// What checks found, and how clients fare: trouble first.

import { refusal } from "../dialog.js";
import { h, redraw } from "../dom.js";
import { count, moment, names, percent, plural } from "../format.js";
import { badge, hostLink, serviceLink } from "../parts.js";
import { table } from "../table.js";
import { watch } from "../watch.js";

export function health() {
  const trouble = h("div");
  const summary = h("p", { class: "lead" });
  const checks = h("div");
  const passive = h("div");
  let rows = new Map();
  const grid = table({
    name: "Services with checks", one: "service",
    rows: () => rows,
    words: (row, name) => `${name} ${row.down.join(" ")}`,
    sort: ["Up", false],
    empty: "No service has checks: every host that has a next hop counts as up.",
    filters: [{ name: "all" }, { name: "with trouble", fits: (row) => row.down.length > 0 || row.unknown.length > 0 || row.panic }],
    columns: [
      { name: "Service", head: true, sort: (_, name) => name, mark: (_, name) => name, draw: (_, name) => serviceLink(name) },
      { name: "Up", numeric: true, sort: (row) => row.up.length / Math.max(1, row.up.length + row.down.length + row.unknown.length), text: (row) => `${count(row.up.length)} of ${count(row.up.length + row.down.length + row.unknown.length)}` },
      { name: "Down", sort: (row) => -row.down.length, text: (row) => names(row.down) || "–" },
      { name: "Not known yet", sort: (row) => -row.unknown.length, text: (row) => names(row.unknown) || "–" },
      { name: "Remarks", wide: true, sort: (row) => remarks(row), text: (row) => remarks(row) || "–" },
    ],
  });
  const watched = watch("/page/health", 3000, (answer) => {
    trouble.replaceChildren();
    rows = new Map(answer.services.map((row) => [row.service, row]));
    grid.update();
    redraw(summary, [answer.all, answer.not_up], () => (answer.all === 0 ? "No checks are made." : answer.not_up === 0 ? `All ${plural(answer.all, "check")} find their hosts up.` : `${plural(answer.not_up, "check")} of ${count(answer.all)} find no host up.`));
    redraw(checks, answer.checks.map((of) => [of.service, of.host, of.check, of.oper, of.why]), () => answer.checks.length > 0 && [
      h("h2", { text: "Checks that find nobody well" }),
      h("ul", { class: "list" }, answer.checks.map((check) => h("li", {},
        h("div", {}, badge(check.oper === "down" ? "down" : "not known yet"), " ", hostLink(check.host), " for ", serviceLink(check.service), ` by ${check.check}`),
        h("p", { class: "muted", text: `${check.why}${check.since ? `, since ${moment(check.since)}` : ""}` })))),
      answer.not_up > answer.checks.length && h("p", { class: "muted", text: `and ${count(answer.not_up - answer.checks.length)} more` }),
    ]);
    redraw(passive, answer.passive, () => answer.passive.length > 0 && [
      h("h2", { text: "How clients fare" }),
      h("ul", { class: "list" }, answer.passive.map((of) => h("li", {},
        h("div", {}, badge(of.oper === "down" ? "down" : "not known yet"), " ", hostLink(of.host), " for ", serviceLink(of.service)),
        h("p", { class: "muted", text: [of.why, ...of.suspected.map((one) => one.why), of.doubt, of.new_flows > 0 && `${percent(of.unanswered / of.new_flows)} of ${count(of.new_flows)} new flows unanswered`].filter(Boolean).join("; ") })))),
    ]);
  }, (error) => trouble.replaceChildren(refusal(error)));
  return {
    title: "Health",
    root: h("section", { "aria-labelledby": "title" }, h("h1", { id: "title", tabindex: "-1", text: "Health" }), trouble, summary, checks, passive, h("h2", { text: "By service" }), grid.root),
    close: watched.close,
    update: grid.update,
  };
}

function remarks(row) {
  return [
    row.panic && "so few are up that all are used",
    row.standby_in_use && "standby hosts are in use",
    row.spared.length > 0 && `used although down: ${names(row.spared)}`,
    row.waiting.length > 0 && `stand by: ${names(row.waiting)}`,
  ].filter(Boolean).join("; ");
}
