// Parts that several views show.

import { drain, undrain } from "./act.js";
import { chart, axes } from "./chart.js";
import { h, redraw, write } from "./dom.js";
import { count, duration, isOut, iso, moment, percent, plural, rate, bytes, stateOf } from "./format.js";
import { now, state } from "./state.js";

const KINDS = {
  "in use": "quiet", draining: "draining", drained: "drained", disabled: "drained", down: "down",
  "coming back": "back", "down in part": "down", "not known yet": "unknown", undrained: "quiet",
};

/** How a state is coloured. */
export const kindOf = (word) => KINDS[word] ?? "quiet";

/** A state as a word with its sign. */
export function badge(word) {
  return h("span", { class: `badge badge-${kindOf(word)}` }, h("span", { class: "sign", "aria-hidden": "true" }), word);
}

export const hostLink = (name) => h("a", { href: `#/hosts/${encodeURIComponent(name)}`, text: name });
export const serviceLink = (name) => h("a", { href: `#/services/${encodeURIComponent(name)}`, text: name });

/** Names as links, so many at most. */
export function links(list, link, most = 5) {
  const shown = list.slice(0, most).flatMap((name, n) => (n > 0 ? [", ", link(name)] : [link(name)]));
  return h("span", {}, shown, list.length > most && ` and ${count(list.length - most)} more`);
}

export function time(at) {
  return h("time", { datetime: iso(at), text: moment(at) });
}

export function liveText(live) {
  return `${count(live[0])}${live[5] ? "+" : ""}`;
}

/** A share as a figure with a bar. */
export function shareBar(share, most) {
  return [h("span", { class: "bar", "aria-hidden": "true" }, h("span", { style: { width: `${Math.min(100, (100 * share) / most)}%` } })), h("span", { class: "figure", text: percent(share) })];
}

/** The button that does what can be done with a host. */
export function hostAct(name, host) {
  if (isOut(host)) return h("button", { type: "button", class: "act", "aria-label": `Take back ${name}`, onclick: () => undrain([name]) }, "Take back");
  if (host.admin === "disabled") return h("span", { class: "muted", text: "by the config" });
  return h("button", { type: "button", class: "act", "aria-label": `Drain ${name}`, onclick: () => drain([name]) }, "Drain");
}

/** A list of names and figures. */
export function facts(pairs) {
  return h("dl", { class: "details" }, pairs.filter(Boolean).map(([name, value]) => h("div", {}, h("dt", { text: name }), h("dd", {}, value))));
}

/** What is left until a deadline or lease. */
function until(at) {
  const left = at - now();
  return left > 0 ? `in ${duration(left)}` : `${duration(-left)} ago`;
}

/** All of a drain under way, drawn anew with `update(drain)`. */
export function drainCard(id, { withHost = true } = {}) {
  const title = h("h3");
  const about = h("p", { class: "muted" });
  let shown = null;
  const back = h("button", { type: "button", class: "act", text: "Take back", onclick: () => undrain([shown.host], shown) });
  const head = h("div", { class: "drain-head" }, title, about, back);
  const figures = h("dl", { class: "drain-figures" });
  const left = h("dd", { class: "big" });
  const ofStart = h("dd");
  const expected = h("dd");
  const traffic = h("dd");
  const pair = (name, dd, more) => h("div", { class: more ?? null }, h("dt", { text: name }), dd);
  figures.append(pair("live flows left", left, "first"), pair("ended of those at the start", ofStart), pair("expected end", expected), pair("goes to it now", traffic));
  const picture = h("div", { class: "drain-chart" });
  const note = h("p", { class: "drain-note" });
  const blockers = h("div", { class: "blockers" });
  const root = h("article", { class: "card drain", "aria-label": `Drain ${id}` }, head, figures, picture, note, blockers);
  return {
    root,
    update(drain) {
      root.dataset.state = drain.state;
      const only = [drain.service && `for ${drain.service} alone`, drain.clients && `for clients of ${drain.clients} alone`].filter(Boolean).join(", ");
      shown = drain;
      back.setAttribute("aria-label", `Take back ${drain.host}${only ? `, ${only}` : ""}`);
      redraw(title, [drain.host, drain.state], () => [withHost ? hostLink(drain.host) : `Drain ${drain.id}`, " ", badge(drain.state)]);
      redraw(about, [drain.by, drain.reason, only, drain.order.share], () => [
        `${withHost ? `drain ${drain.id}, ` : ""}by ${drain.by} since `, time(drain.started_at), drain.reason ? `: ${drain.reason}` : "", only ? ` (${only})` : "", drain.order.share ? ` gives up ${drain.order.share} % of its slots` : "",
      ]);
      const total = drain.live_flows.total;
      const progress = drain.progress;
      write(left, count(total));
      write(ofStart, `${count(progress?.ended ?? Math.max(0, drain.flows_at_start - total))} of ${count(drain.flows_at_start)}`);
      const ends = progress?.expected_end;
      const parts = [[ends?.p99, ""], [ends?.p90, "9 of 10 "], [ends?.p50, "half "]];
      const [within, of] = parts.find(([seconds]) => typeof seconds === "number") ?? [];
      write(expected, total === 0 ? "no flow is left" : within === undefined ? "not known yet" : `${of}within ${duration(within)}`);
      write(traffic, progress ? `${rate(progress.packets_per_second)} packets/s, ${bytes(progress.bytes_per_second)}/s` : "–");
      const points = state.trails.get(String(drain.id)) ?? [[drain.started_at, drain.flows_at_start]];
      const at = now();
      redraw(picture, [points.length, points.at(-1), drain.order.deadline, Math.floor(at)], () => {
        const about = { points, now: at, expected: ends, deadline: drain.order.deadline };
        const title = `Live flows of ${drain.host}: ${count(drain.flows_at_start)} when it began, ${count(total)} now, ${plural(Math.round(at - drain.started_at), "second")} later`;
        const { top, from } = axes(about);
        return [chart({ ...about, title }), h("span", { class: "axis axis-top", "aria-hidden": "true", text: top }), h("span", { class: "axis axis-zero", "aria-hidden": "true", text: "0" }), h("span", { class: "axis axis-from", "aria-hidden": "true", text: from })];
      });
      const { deadline, at_deadline, lease } = drain.order;
      const then = { keep: "flows that are left go on", move: "flows that are left move", reset: "flows that are left are reset" }[at_deadline];
      write(note, [
        drain.waiting_for && `waits for ${drain.waiting_for}`,
        deadline && `deadline ${until(deadline)}, then ${then}`,
        drain.overdue_since && "overdue",
        lease && `taken back ${until(lease)}`,
      ].filter(Boolean).join(" · "));
      redraw(blockers, progress?.blockers ?? null, () => (progress?.blockers?.length ? h("details", {}, h("summary", { text: `The ${plural(progress.blockers.length, "oldest flow")}` }),
        h("ul", {}, progress.blockers.map((flow) => h("li", { text: `${flow.client} → ${flow.vip} (${flow.service}), ${flow.phase}, ${duration(flow.age)} old, silent for ${duration(flow.idle)}` })))) : null));
    },
  };
}

/** A host's state with what is behind it, for tables. */
export function hostState(host) {
  const word = stateOf(host);
  const more = host.ramp ? `${Math.round(host.ramp.share * 100)} %` : word === "down in part" ? plural(host.down_for.length, "service") : null;
  return [badge(word), host.oper === "down" && isOut(host) && h("span", { class: "muted", text: " and down" }), more && h("span", { class: "muted", text: ` ${more}` })];
}

