// What was changed, by whom and why; what differs between two revisions; and the way back.

import { changesOf, rollback } from "../act.js";
import { ApiError, get } from "../api.js";
import { refusal } from "../dialog.js";
import { h, redraw } from "../dom.js";
import { links, hostLink, time } from "../parts.js";
import { state } from "../state.js";

const PAGE = 30;
/** Kinds after which another config is in force. */
const CONFIGS = new Set(["start", "apply", "rollback", "created"]);

export function history() {
  const list = h("ol", { class: "revisions" });
  const trouble = h("div");
  const more = h("button", { type: "button", text: "Older ones", onclick: () => load(true) });
  const from = h("input", { type: "number", min: 1, class: "short", id: "from", "aria-label": "From revision" });
  const to = h("input", { type: "number", min: 1, class: "short", placeholder: "now", "aria-label": "To revision, now if it is left out" });
  const result = h("div", { class: "diff", "aria-live": "polite" });
  const compare = h("form", { class: "compare", onsubmit: (event) => { event.preventDefault(); diff(); } },
    h("span", { text: "Compare revision" }), from, h("span", { text: "with" }), to, h("button", { type: "submit", text: "Show the difference" }));
  let revisions = [];
  let seen = null;

  async function load(older = false) {
    try {
      const before = older && revisions.length > 0 ? `&before=${revisions.at(-1).revision}` : "";
      const page = await get(`/v1/history?limit=${PAGE}${before}`);
      revisions = older ? [...revisions, ...page.revisions] : page.revisions;
      more.hidden = page.revisions.length < PAGE;
      trouble.replaceChildren();
      draw();
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      trouble.replaceChildren(refusal(error));
    }
  }

  function draw() {
    const inForce = state.head?.config_in_force?.revision;
    redraw(list, [revisions.map((of) => [of.revision, of.outcome]), inForce], () => revisions.map((of) => row(of, inForce)));
  }

  function row(of, inForce) {
    const canGoBack = CONFIGS.has(of.kind) && of.revision !== inForce;
    const detail = h("div", { class: "revision-detail" });
    const open = h("details", {}, h("summary", {},
      h("span", { class: "revision-number", text: of.revision }), h("span", { class: `kind kind-${of.kind}`, text: of.kind }),
      h("span", { class: "revision-summary", text: of.summary }), of.revision === inForce && h("span", { class: "badge badge-back", text: "in force" }),
      h("span", { class: "muted revision-by" }, time(of.at), ` by ${of.by}`)), detail);
    open.addEventListener("toggle", async () => {
      if (!open.open || detail.childElementCount > 0) return;
      try {
        const whole = await get(`/v1/history/${of.revision}`);
        detail.replaceChildren(...[
          of.reason && h("p", { text: `Reason: ${of.reason}` }),
          of.outcome && h("p", { text: `Outcome: ${of.outcome}` }),
          of.hosts.length > 0 && h("p", {}, "Hosts: ", links(of.hosts, hostLink, 20)),
          whole.changes.length > 0 ? changesOf(whole.changes) : h("p", { class: "muted", text: "The config stayed as it was." }),
          h("div", { class: "acts" },
            h("button", { type: "button", text: "Difference to now", "aria-label": `Difference of revision ${of.revision} to now`, onclick: () => { from.value = of.revision; to.value = ""; diff(); } }),
            canGoBack && h("button", { type: "button", class: "act", "aria-label": `Go back to revision ${of.revision}`, text: "Go back to this…", onclick: () => rollback(of.revision) })),
        ].filter(Boolean));
      } catch (error) {
        if (!(error instanceof ApiError)) throw error;
        detail.replaceChildren(refusal(error));
      }
    });
    return h("li", { class: "revision" }, open);
  }

  async function diff() {
    try {
      if (from.value === "") throw new ApiError(0, { message: "from which revision?", hint: "type its number" });
      const answer = await get(`/v1/diff?from=${encodeURIComponent(from.value)}${to.value === "" ? "" : `&to=${encodeURIComponent(to.value)}`}`);
      result.replaceChildren(...[
        h("h2", { text: `From revision ${answer.from} to ${to.value === "" ? "now" : answer.to}` }),
        answer.changes.length > 0 ? changesOf(answer.changes) : h("p", { class: "muted", text: "The config is the same." }),
        answer.drains.length > 0 && h("ul", { class: "list" }, answer.drains.map((of) => h("li", {}, hostLink(of.host), of.to === null ? ` is not out any more (drain ${of.from})` : of.from === null ? ` is out (drain ${of.to})` : ` is out by drain ${of.to} instead of ${of.from}`))),
      ].filter(Boolean));
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      result.replaceChildren(refusal(error));
    }
    result.scrollIntoView({ block: "nearest" });
  }

  return {
    title: "History",
    root: h("section", { "aria-labelledby": "title" }, h("h1", { id: "title", tabindex: "-1", text: "History" }), compare, result, trouble, list, more),
    update() {
      const revision = state.head?.revision ?? null;
      // What was opened stays open: only what is new is put before it.
      if (revision !== seen) {
        seen = revision;
        if (revisions.length <= PAGE && !list.querySelector("details[open]")) load();
        else if (revisions.length > 0) prepend();
      }
      draw();
    },
  };

  async function prepend() {
    const page = await get(`/v1/history?limit=${PAGE}`).catch(() => ({ revisions: [] }));
    const fresh = page.revisions.filter((of) => of.revision > revisions[0].revision);
    // There may be more between them and those that are here.
    if (fresh.length === PAGE) return load();
    const inForce = state.head?.config_in_force?.revision;
    revisions = [...fresh, ...revisions];
    list.drawnFrom = JSON.stringify([revisions.map((of) => [of.revision, of.outcome]), inForce]);
    list.prepend(...fresh.map((of) => row(of, inForce)));
  }
}
