// Maintenance runs: how far they are, host by host.

import { maintain } from "../act.js";
import { refusal } from "../dialog.js";
import { h, redraw } from "../dom.js";
import { count, duration, plural } from "../format.js";
import { hostLink, time } from "../parts.js";
import { now, state } from "../state.js";
import { watch } from "../watch.js";

const OVER = new Set(["done", "failed", "aborted"]);
const ORDER = ["failed", "draining", "working", "proving", "returning", "watching", "waiting", "done", "returned", "untouched"];

export function maintenance() {
  const trouble = h("div");
  const list = h("div", { class: "cards" });
  let lastEvent = 0;
  const open = new Set();
  const watched = watch("/v1/maintain", 2000, (answer) => {
    trouble.replaceChildren();
    redraw(list, answer.runs, () => (answer.runs.length === 0 ? h("p", { class: "none" }, "No run was started yet. ", h("code", { text: "sluice maintain start PLAN" }), " starts one.") : answer.runs.map((run) => card(run, open))));
  }, (error) => trouble.replaceChildren(refusal(error)));
  return {
    title: "Maintenance",
    root: h("section", { "aria-labelledby": "title" }, h("h1", { id: "title", tabindex: "-1", text: "Maintenance" }), trouble, list),
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

function card(run, open) {
  const steps = new Map();
  for (const host of run.hosts) steps.set(host.step, (steps.get(host.step) ?? 0) + 1);
  const words = ORDER.filter((step) => steps.has(step)).map((step) => `${count(steps.get(step))} ${step}`).join(", ");
  const act = (verb, text) => h("button", { type: "button", class: "act", "aria-label": `${text} run ${run.run}`, onclick: () => maintain(run, verb) }, text);
  const details = h("details", { open: open.has(run.run) }, h("summary", { text: `${plural(run.hosts.length, "host")}` }),
    h("ul", { class: "steps" }, run.hosts.slice(0, 300).map((host) => h("li", {},
      h("span", { class: `step step-${host.step}` }, h("span", { class: "sign", "aria-hidden": "true" }), host.step), " ", hostLink(host.host),
      h("span", { class: "muted", text: [host.zone, host.live_flows > 0 && plural(host.live_flows, "live flow"), host.is_back && "on its way back", ...host.failures].filter(Boolean).map((of) => ` ${of}`).join(",") })))));
  details.addEventListener("toggle", () => (details.open ? open.add(run.run) : open.delete(run.run)));
  return h("article", { class: "card run", "aria-label": `Run ${run.run}, ${run.name}` },
    h("div", { class: "drain-head" },
      h("h3", {}, `${run.name} `, h("span", { class: `badge badge-${{ running: "back", paused: "draining", ending: "draining", done: "quiet", failed: "down", aborted: "drained" }[run.state]}`, text: run.state })),
      h("p", { class: "muted" }, `run ${run.run}, by ${run.by} since `, time(run.started_at), run.reason ? `: ${run.reason}` : ""),
      !OVER.has(run.state) && h("div", { class: "acts" }, run.state === "running" && act("pause", "Pause"), run.state === "paused" && act("resume", "Resume"), run.state !== "ending" && act("abort", "Abort"))),
    h("div", { class: "progress", role: "img", "aria-label": words }, ORDER.filter((step) => steps.has(step)).sort((a, b) => ["done", "returned"].includes(b) - ["done", "returned"].includes(a)).map((step) => h("span", { class: `progress-${step}`, title: `${steps.get(step)} ${step}`, style: { width: `${(100 * steps.get(step)) / run.hosts.length}%` } }))),
    h("p", { text: [words, run.ended_at && `ended after ${duration(run.ended_at - run.started_at)}`, run.expected_end && `done in about ${duration(run.expected_end - now())}`].filter(Boolean).join(" · ") }),
    run.why && h("p", { class: "warn", text: run.why }),
    run.waits_for && h("p", { class: "muted", text: `waits for ${run.waits_for}` }),
    details);
}
