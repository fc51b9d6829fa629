// The page: what stands around the views, and which of them is shown.

import { hasToken, lookWithToken, whenTokenChanges } from "./api.js";
import { spark } from "./chart.js";
import { toast } from "./dialog.js";
import { h, redraw, toggle, write } from "./dom.js";
import { bytes, count, duration, isOut, percent, plural, rate } from "./format.js";
import { changed, now, onChange, setLink, state } from "./state.js";
import { follow, restart } from "./stream.js";
import { askForToken, forget, remember, whoami } from "./token.js";
import { speaker } from "./told.js";
import { drains } from "./views/drains.js";
import { events } from "./views/events.js";
import { health } from "./views/health.js";
import { history } from "./views/history.js";
import { host } from "./views/host.js";
import { hosts } from "./views/hosts.js";
import { maintenance } from "./views/maintain.js";
import { receipt, receipts } from "./views/receipts.js";
import { service } from "./views/service.js";
import { services } from "./views/services.js";
import { shares } from "./views/shares.js";

/** Name in the address, word, the list, one of it. */
const VIEWS = [
  ["hosts", "Hosts", hosts, host],
  ["services", "Services", services, service],
  ["drains", "Drains", drains],
  ["shares", "Shares", shares, shares],
  ["health", "Health", health],
  ["history", "History", history],
  ["receipts", "Receipts", receipts, receipt],
  ["maintenance", "Maintenance", maintenance],
  ["events", "Events", events],
];

const $ = (id) => document.getElementById(id);
const main = $("main");
const tabs = new Map();
let view = null;
let shownAt = null;

for (const [name, word] of VIEWS) {
  const badge = h("span", { class: "count" });
  const link = h("a", { href: `#/${name}` }, word, badge);
  tabs.set(name, { link, badge });
  $("tabs").append(h("li", {}, link));
}

function route() {
  const [, name, rest] = location.hash.match(/^#\/([a-z]+)(?:\/(.*))?$/) ?? [];
  const found = VIEWS.find(([known]) => known === name) ?? VIEWS[0];
  const one = rest ? found[3] : null;
  const at = `${found[0]}/${one ? rest : ""}`;
  if (at === shownAt) return;
  const isFirst = shownAt === null;
  shownAt = at;
  view?.close?.();
  view = one ? one(decode(rest)) : found[2]();
  main.replaceChildren(view.root);
  for (const [known, { link }] of tabs) {
    if (known === found[0]) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  draw();
  if (!isFirst) {
    window.scrollTo(0, 0);
    main.querySelector("h1")?.focus({ preventScroll: true });
  }
}

function decode(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** All that is shown, by what is known now. */
function draw() {
  frame();
  if (state.head) view?.update();
}

/** Seconds without a look, of which there is one each second, after which the figures are called old. */
const SILENCE = 10;
const LINKS = { connecting: "connecting", live: "live", lost: "not connected", locked: "locked" };

function frame() {
  const { head } = state;
  const link = $("link");
  // The stream may stand while the engine, which has the figures, does not answer.
  const silence = (performance.now() - state.heardAt) / 1000;
  const known = state.link === "live" && silence > SILENCE ? "stale" : state.link;
  if (link.dataset.state !== known) link.dataset.state = known;
  write(link, known === "stale" ? `no news for ${duration(Math.floor(silence))}` : LINKS[known]);
  document.body.dataset.link = known;
  redraw($("token"), [hasToken(), whoami()], () => (hasToken() ? `Lock (web:${whoami() ?? "…"})` : "Unlock changes"));
  document.title = `${view?.title ?? "Sluice"} · Sluice${head ? ` ${head.instance}` : ""}`;
  if (!head) return;
  write($("instance"), head.instance);
  const figures = [
    ["live flows", `${count(head.live)}${head.hidden ? "+" : ""}`, () => spark(state.flows, "Live flows over time")],
    ["new flows/s", rate(head.rates[0])],
    ["packets/s", rate(head.rates[1])],
    ["traffic/s", bytes(head.rates[2])],
    ["flow table", percent(head.pinned / head.pins)],
  ];
  const box = $("figures");
  if (box.childElementCount === 0) {
    for (const [name] of figures) box.append(h("div", {}, h("dt", { text: name }), h("dd", {}, h("span", { class: "value" }), h("span", { class: "more" }))));
  }
  figures.forEach(([, value, more], n) => {
    const [figure, extra] = box.children[n].lastElementChild.children;
    write(figure, value);
    if (more) redraw(extra, [state.flows.length, state.flows.at(-1)], more);
  });
  const rows = [...state.hosts.values()];
  const under = [...state.drains.values()].filter((drain) => drain.state === "draining").length;
  const down = rows.filter((row) => row.oper === "down" || row.down_for.length > 0).length;
  tab("hosts", rows.length);
  tab("services", state.services.size);
  tab("drains", under || rows.filter(isOut).length || "", under > 0 ? "draining" : "");
  tab("health", down || "", down > 0 ? "down" : "");
  problems(head);
  write($("foot"), `Sluice ${head.version} · generation ${count(head.generation)} · revision ${count(head.revision)} · up for ${duration(now() - head.started_at)} · ${head.interfaces.map((of) => `${of.name} (${of.mode})`).join(", ")}`);
}

function tab(name, figure, kind = "") {
  const { badge } = tabs.get(name);
  write(badge, figure === "" ? "" : ` ${count(figure)}`);
  badge.dataset.kind = kind;
}

/** What an operator should look at; closed it is a line. */
function problems(head) {
  const list = [...head.problems];
  if (head.config_in_force.confirm_by) list.unshift(`The config waits to be confirmed: it is taken back in ${duration(head.config_in_force.confirm_by - now())} unless somebody runs sluice confirm ${head.config_in_force.revision}`);
  if (head.config_in_force.differs_from_file) list.push("The config in force is not that of the daemon's own file");
  const box = $("problems");
  box.hidden = list.length === 0;
  const wasOpen = box.querySelector("details")?.open;
  redraw(box, list.map((text) => text.replace(/\d+ (s|min)\b/g, "")), () => list.length > 0 && h("details", { open: wasOpen ?? list.length === 1 },
    h("summary", {}, h("strong", { text: plural(Math.max(head.problem_count, list.length), "problem") }), list.length > 1 && h("span", { class: "muted", text: ` ${list[0]}` })),
    h("ul", {}, list.map((text) => h("li", { text })), head.problem_count > head.problems.length && h("li", { text: `and ${count(head.problem_count - head.problems.length)} more` }))));
}

/** Where even a look takes a token. */
let isAsking = false;
async function unlock() {
  if (isAsking || state.link !== "locked") return;
  isAsking = true;
  main.replaceChildren(h("section", { class: "locked" }, h("h1", { text: "Sluice is locked" }), h("p", { text: "Here even a look takes a token." }),
    h("button", { type: "button", class: "primary", text: "Unlock", onclick: () => askForToken("Here even a look takes a token.") })));
  await askForToken("Here even a look takes a token.");
  isAsking = false;
}

$("token").addEventListener("click", () => {
  if (hasToken()) forget();
  else askForToken("Whoever changes something shows a token first.");
});
whenTokenChanges(() => {
  if (state.link === "locked" && hasToken()) {
    lookWithToken();
    // Until it is known whether that opens it.
    setLink("connecting");
    main.replaceChildren(view.root);
  }
  restart();
  changed();
});
onChange(() => {
  draw();
  toggle(main, "aria-busy", state.link === "connecting");
  unlock();
});
window.addEventListener("hashchange", route);
// Ages are shown in seconds.
setInterval(() => { if (!document.hidden && state.link === "live") changed(); }, 1000);
// A daemon that does not answer for a moment says nothing of the token.
if (hasToken()) remember(sessionStorage.getItem("sluice-token")).then(changed, (error) => error.status === 401 && forget());
route();
follow(speaker(toast, () => `web:${whoami()}`));
