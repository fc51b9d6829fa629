// Maintenance runs: how far they are, host by host.

import { maintain } from "../act.js";
import { refusal } from "../dialog.js";
import { h, redraw, write } from "../dom.js";
import { count, duration, plural } from "../format.js";
import { hostLink, time } from "../parts.js";
import { now, state } from "../state.js";
import { watch } from "../watch.js";

const OVER = new Set(["done", "failed", "aborted"]);
const ORDER = ["failed", "draining", "working", "proving", "returning", "watching", "waiting", "done", "returned", "untouched"];

export function maintenance() {
  const trouble = h("div");
  const list = h("div", { class: "cards" });
  const none = h("p", { class: "none", hidden: true }, "No run was started yet. ", h("code", { text: "sluice maintain start PLAN" }), " starts one.");
  const cards = new Map();
  let lastEvent = 0;
  const watched = watch("/v1/maintain", 2000, ({ runs }) => {
    trouble.replaceChildren();
    none.hidden = runs.length > 0;
    for (const run of runs) {
      if (!cards.has(run.run)) cards.set(run.run, card(run));
      cards.get(run.run).update(run);
    }
    // The newest first, and none that stands right is moved.
    runs.forEach((run, n) => {
      const { root } = cards.get(run.run);
      if (list.children[n] !== root) list.insertBefore(root, list.children[n] ?? null);
    });
  }, (error) => trouble.replaceChildren(refusal(error)));
  return {
    title: "Maintenance",
    root: h("section", { "aria-labelledby": "title" }, h("h1", { id: "title", tabindex: "-1", text: "Maintenance" }), trouble, none, list),
    close: watched.close,
    update() {
      const event = state.events.find((of) => of.event.startsWith("maintain_"));
      if (event && event.seq !== lastEvent) {
        lastEvent = event.seq;
        watched.again();
      }
    },
  };
}

const BADGES = { running: "back", paused: "draining", ending: "draining", done: "quiet", failed: "down", aborted: "drained" };

function card(first) {
  let shown = first;
  const title = h("h3");
  const acts = h("div", { class: "acts" });
  const about = h("p", { class: "muted" }, `run ${first.run}, by ${first.by} since `, time(first.started_at), first.reason ? `: ${first.reason}` : "");
  const bar = h("div", { class: "progress", role: "img" });
  const words = h("p");
  const remarks = h("div");
  const steps = h("ul", { class: "steps" });
  const root = h("article", { class: "card", "aria-label": `Run ${first.run}, ${first.name}` },
    h("div", { class: "drain-head" }, title, about, acts), bar, words, remarks,
    h("details", {}, h("summary", { text: plural(first.hosts.length, "host") }), steps));
  const act = (verb, text) => h("button", { type: "button", class: "act", "aria-label": `${text} run ${first.run}`, onclick: () => maintain(shown, verb) }, text);
  return {
    root,
    update(run) {
      shown = run;
      const at = new Map();
      for (const host of run.hosts) at.set(host.step, (at.get(host.step) ?? 0) + 1);
      const known = ORDER.filter((step) => at.has(step));
      const told = known.map((step) => `${count(at.get(step))} ${step}`).join(", ");
      redraw(title, run.state, () => [`${run.name} `, h("span", { class: `badge badge-${BADGES[run.state]}`, text: run.state })]);
      redraw(acts, run.state, () => (OVER.has(run.state) ? [] : [run.state === "running" && act("pause", "Pause"), run.state === "paused" && act("resume", "Resume"), run.state !== "ending" && act("abort", "Abort")]));
      bar.setAttribute("aria-label", told);
      redraw(bar, told, () => [...known].sort((a, b) => isDone(b) - isDone(a)).map((step) => h("span", { class: `progress-${step}`, title: `${at.get(step)} ${step}`, style: { width: `${(100 * at.get(step)) / run.hosts.length}%` } })));
      write(words, [told, run.ended_at && `ended after ${duration(run.ended_at - run.started_at)}`, run.expected_end && `done in about ${duration(run.expected_end - now())}`].filter(Boolean).join(" · "));
      redraw(remarks, [run.why, run.waits_for], () => [run.why && h("p", { class: "warn", text: run.why }), run.waits_for && h("p", { class: "muted", text: `waits for ${run.waits_for}` })]);
      redraw(steps, run.hosts.map((host) => [host.step, host.live_flows, host.is_back, host.failures]), () => run.hosts.slice(0, 300).map((host) => h("li", {},
        h("span", { class: `step step-${host.step}` }, h("span", { class: "sign", "aria-hidden": "true" }), host.step), " ", hostLink(host.host),
        h("span", { class: "muted", text: [host.zone, host.live_flows > 0 && plural(host.live_flows, "live flow"), host.is_back && "on its way back", ...host.failures].filter(Boolean).map((of) => ` ${of}`).join(",") }))));
    },
  };
}

const isDone = (step) => Number(step === "done" || step === "returned");
