// What can be changed over the page, each with what it would do and a question: drain, take back, roll back, and maintenance runs.

import { ApiError, post } from "./api.js";
import { ask, field, refusal } from "./dialog.js";
import { h } from "./dom.js";
import { count, duration, moment, names, parseDuration, percent, phasesOf, plural, rate } from "./format.js";
import { now, state } from "./state.js";
import { needToken } from "./token.js";

const whom = (hosts) => (hosts.length === 1 ? hosts[0] : plural(hosts.length, "host"));
/** Hosts that a question names. */
const NAMED = 8;
const DEADLINE = "Such as 10m or 1h 30m";
const or = (text) => (text.trim() === "" ? null : text.trim());

function reasonField() {
  const input = h("input", { type: "text", maxlength: 400, autocomplete: "off" });
  return { input, element: field("Reason", input, "For the journal and for whoever looks") };
}

/** Who is meant, where the title has only their number; `hidden` of them are not in the table as it is filtered. */
function named(hosts, hidden) {
  return [
    hosts.length > 1 && h("p", { class: "named", text: names(hosts, NAMED) }),
    hidden > 0 && h("p", { class: "warn", text: `${count(hidden)} of ${plural(hosts.length, "host")} not shown by the filter.` }),
  ];
}

/** Where it is told what something would do. */
function planBox() {
  return h("div", { class: "plan", "aria-live": "polite", "aria-busy": "true" });
}

/**
 * Asks the daemon what it would do, and has it done only after that: `show(answer)` gives what is told of it, and `canBe(answer)` whether there is
 * something to do. Whoever gets no answer may ask once more.
 */
async function foresee(plan, go, [path, body], show, canBe = () => true) {
  const isHeld = plan.contains(document.activeElement);
  go.disabled = true;
  plan.setAttribute("aria-busy", "true");
  plan.replaceChildren(h("p", { class: "muted", text: "Asking what it would do…" }));
  try {
    const would = await post(path, body);
    plan.replaceChildren(...[show(would)].flat().filter(Boolean));
    go.disabled = !canBe(would);
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    plan.replaceChildren(refusal(error), h("button", { type: "button", text: "Ask again", onclick: () => foresee(plan, go, [path, body], show, canBe) }));
  }
  plan.removeAttribute("aria-busy");
  // The button that was pressed has gone.
  if (isHeld) (plan.querySelector("button") ?? (go.disabled ? go.previousElementSibling : go)).focus();
}

/** A deadline's field; under it, what is taken for it. */
function deadlineField() {
  const input = h("input", { type: "text", inputmode: "text", placeholder: "none", autocomplete: "off", class: "short" });
  const element = field("Deadline", input, DEADLINE);
  const hint = element.querySelector("small");
  hint.setAttribute("aria-live", "polite");
  input.addEventListener("input", () => {
    const seconds = parseDuration(input.value);
    hint.classList.toggle("bad", seconds === null && input.value.trim() !== "");
    hint.textContent = input.value.trim() === "" ? DEADLINE
      : seconds === null ? "No time: write 90s, 10m or 1h 30m" : `After ${duration(seconds)}, at ${moment(now() + seconds)}`;
  });
  return { input, element };
}

/** Drains hosts: with the plan of it, and what bounds it. `hidden`: how many of them are not seen where they were chosen. */
export async function drain(hosts, { hidden = 0 } = {}) {
  if (!(await needToken())) return;
  const plan = planBox();
  const reason = reasonField();
  const { input: deadline, element: deadlineElement } = deadlineField();
  const atDeadline = h("select", { disabled: true },
    h("option", { value: "keep", text: "go on" }), h("option", { value: "move", text: "move to another host" }), h("option", { value: "reset", text: "are reset" }));
  const force = h("input", { type: "text", autocomplete: "off", class: "short" });
  const forceField = h("div", { hidden: true }, field("Type “force” to drain all the same", force));
  let isBroken = false;
  deadline.addEventListener("input", () => { atDeadline.disabled = deadline.value.trim() === ""; });
  const { dialog, go } = ask({
    title: `Drain ${whom(hosts)}`,
    verb: `Drain ${whom(hosts)}`,
    first: reason.input,
    body: [
      ...named(hosts, hidden),
      h("p", { class: "lead", text: `${hosts.length === 1 ? "It gets" : "They get"} no new flows from then on. Flows that live go on until they end.` }),
      plan, reason.element,
      h("div", { class: "row" },
        deadlineElement,
        field("Flows that are left then", atDeadline)),
      forceField,
    ],
    act: async () => {
      const body = { hosts, reason: or(reason.input.value) };
      if (deadline.value.trim() !== "") {
        body.deadline = parseDuration(deadline.value);
        if (body.deadline === null) throw new ApiError(0, { message: `${deadline.value} is no time`, hint: "write 90s, 10m or 1h 30m" });
        body.at_deadline = atDeadline.value;
      }
      if (isBroken) {
        if (force.value.trim() !== "force") {
          force.focus();
          throw new ApiError(0, { message: "rules would be broken", hint: "type force to drain all the same, or cancel" });
        }
        body.force = true;
      }
      const { drains } = await post("/v1/drain", body);
      return drains.length === 1 ? `${hosts[0]} is ${drains[0].state}, as drain ${drains[0].id}` : `${plural(drains.length, "drain")} under way`;
    },
  });
  const broken = () => {
    isBroken = true;
    forceField.hidden = false;
    go.classList.add("danger");
  };
  dialog.addEventListener("refused", (event) => { if (event.detail.code === "rule") broken(); });
  await foresee(plan, go, ["/v1/plan/drain", { hosts }], (would) => {
    if (would.rules.length > 0) broken();
    return planOf(would, hosts);
  });
}

function planOf(plan, hosts) {
  const total = plan.hosts.reduce((sum, host) => sum + host.live_flows.total, 0);
  const moved = plan.hosts.reduce((sum, host) => sum + host.slots - host.kept, 0);
  const hidden = plan.hosts.some((host) => host.live_flows.hidden);
  const facts = [
    [`${hidden ? "At least " : ""}${plural(total, "live flow")}`, hosts.length === 1 ? phasesOf(plan.hosts[0].live_flows) || "none" : "on all of them"],
    [`${plural(moved, "slot")} get another owner`, "and no other slot moves"],
    [plan.expected_seconds === null ? "No end is foreseen yet" : `Over in about ${duration(plan.expected_seconds)}`,
      plan.at_least_seconds > 0 ? `not before ${duration(plan.at_least_seconds)}` : plan.expected_seconds === null ? "too few flows have ended to tell" : "for 99 of 100 flows that live now"],
  ];
  const gain = (host) => host.share_after - host.share_before;
  const heirs = plan.survivors.filter((host) => gain(host) > 0).sort((a, b) => gain(b) - gain(a));
  const most = Math.max(...heirs.map((host) => host.share_after), 0.01);
  const bar = (host) => {
    const svgBar = h("span", { class: "heir-bar", "aria-hidden": "true" },
      h("span", { class: "heir-before", style: { width: `${(100 * host.share_before) / most}%` } }),
      h("span", { class: "heir-gain", style: { width: `${(100 * gain(host)) / most}%` } }));
    return h("li", {}, h("span", { class: "heir-name", text: host.host }), svgBar,
      h("span", { class: "heir-share" }, `${percent(host.share_before)} → `, h("strong", { text: percent(host.share_after) })));
  };
  return [
    plan.rules.length > 0 && h("div", { class: "refusal" },
      h("p", {}, h("strong", { text: "Rules would be broken" })),
      h("ul", {}, plan.rules.map((rule) => h("li", {}, h("strong", { text: rule.message }), ` ${rule.mend}`)))),
    h("ul", { class: "facts" }, facts.map(([what, more]) => h("li", {}, h("strong", { text: what }), h("span", { text: more })))),
    heirs.length > 0 && h("p", { class: "label", text: "Who gets its new flows" }),
    heirs.length > 0 && h("ul", { class: "heirs" }, heirs.slice(0, 6).map(bar)),
    heirs.length > 6 && h("p", { class: "muted", text: `and ${count(heirs.length - 6)} more` }),
    plan.unserved && h("p", { class: "warn", text: `${plural(plan.unserved.slots, "slot")} would be nobody's: ${rate(plan.unserved.load.new_flows_per_second)} new flows a second would be refused` }),
    plan.notes.map((note) => h("p", { class: "muted", text: note })),
  ].flat().filter(Boolean);
}

/** Takes hosts back, at once or by and by; `of`: the service or the clients for which alone they are out, and `hidden` as of `drain`. */
export async function undrain(hosts, of = {}) {
  if (!(await needToken())) return;
  const reason = reasonField();
  const ramp = h("select", {}, [["at once", ""], ["within 1 minute", "60"], ["within 5 minutes", "300"], ["within 15 minutes", "900"]].map(([text, value]) => h("option", { value, text })));
  const isWhole = !of.service && !of.clients;
  ask({
    title: `Take back ${whom(hosts)}`,
    verb: `Take back ${whom(hosts)}`,
    first: reason.input,
    body: [
      ...named(hosts, of.hidden ?? 0),
      h("p", { class: "lead", text: `${hosts.length === 1 ? "It gets" : "They get"} new flows again${of.service ? `, for ${of.service}` : ""}${of.clients ? `, of ${of.clients}` : ""}. The ring becomes the very one from before.` }),
      backPlan(hosts, of),
      reason.element,
      isWhole && field("Full share", ramp),
    ],
    act: async () => {
      const body = { hosts, reason: or(reason.input.value), service: of.service ?? null, clients: of.clients ?? null };
      if (isWhole && ramp.value !== "") body.ramp = Number(ramp.value);
      await post("/v1/undrain", body);
      return `${whom(hosts)} ${hosts.length === 1 ? "is" : "are"} back${body.ramp ? `, in full within ${duration(body.ramp)}` : ""}`;
    },
  });
}

/** What comes back: by the shares that the rings have when every host is in use; of a drain for one service, by that service's ring alone. */
function backPlan(hosts, of) {
  const back = new Set(hosts);
  const isMeant = (drain) => back.has(drain.host) && (of.service || of.clients ? drain.service === (of.service ?? null) && drain.clients === (of.clients ?? null) : true);
  const own = [...state.drains.values()].filter((drain) => drain.state !== "undrained" && isMeant(drain));
  const parts = own.filter((drain) => drain.service || drain.clients);
  const left = own.filter((drain) => drain.state === "draining").reduce((sum, drain) => sum + drain.live_flows.total, 0);
  const down = hosts.filter((host) => state.hosts.get(host)?.oper === "down");
  // Those for some clients are looked up beside the rings.
  const slots = of.clients
    ? [h("li", {}, h("strong", { text: `New flows of ${of.clients} come back` }), h("span", { text: "the slots of all others stay as they are" }))]
    : slotsOf(back, of.service);
  return h("div", { class: "plan" },
    h("ul", { class: "facts" }, slots,
      h("li", {}, h("strong", { text: left > 0 ? `${plural(left, "live flow")} stay` : "No flow is in the way" }), h("span", { text: "where they are" }))),
    !of.service && !of.clients && parts.length > 0 && h("p", { class: "warn", text: `This ends as well ${parts.length === 1 ? "the drain" : "the drains"} of ${names(parts.map(partOf), 4)}` }),
    down.length > 0 && h("p", { class: "warn", text: `${names(down)} ${down.length === 1 ? "is" : "are"} down: new flows come only when ${down.length === 1 ? "it is" : "they are"} up` }));
}

const partOf = (drain) => [drain.host, drain.service && `for ${drain.service}`, drain.clients && `for clients ${drain.clients}`].filter(Boolean).join(" ");

/** The slots that come back, in the rings of all services or in that of one; and who gives them back. */
function slotsOf(back, service) {
  let slots = 0;
  let all = 0;
  const givers = new Set();
  for (const ring of state.rings.values()) {
    const own = ring.members.filter(([host]) => back.has(host));
    if (own.length === 0 || (service && !ring.services.includes(service))) continue;
    all += ring.size;
    for (const [, has, base] of own) slots += Math.max(0, base - has);
    for (const [host, has, base] of ring.members) if (!back.has(host) && has > base) givers.add(host);
  }
  return [
    h("li", {}, h("strong", { text: `${plural(slots, "slot")} come back` }), h("span", { text: all ? `${percent(slots / all)} of new flows${service ? ` of ${service}` : ""}, when every other host is in use` : "" })),
    h("li", {}, h("strong", { text: givers.size > 0 ? plural(givers.size, "host") : "No host" }), h("span", { text: givers.size > 0 ? `give back what they took over: ${names([...givers], 4)}` : "gives anything back" })),
  ];
}

/** A config of before in force again. */
export async function rollback(revision) {
  if (!(await needToken())) return;
  const reason = reasonField();
  const plan = planBox();
  const { go } = ask({
    title: `Go back to revision ${revision}`,
    verb: `Go back to ${revision}`,
    first: reason.input,
    body: [h("p", { class: "lead", text: "The config that was in force after it comes back. Drains and other intents stay as they are." }), plan, reason.element],
    act: async () => {
      const done = await post("/v1/rollback", { revision, reason: or(reason.input.value) });
      return done.revision === null ? "It is in force already" : `The config of revision ${revision} is in force again, as revision ${done.revision}`;
    },
  });
  await foresee(plan, go, ["/v1/rollback", { revision, dry_run: true }], ({ plan: would }) => configPlan(would), ({ plan: would }) => would.changes.length > 0);
}

function configPlan(plan) {
  if (plan.changes.length === 0) return [h("p", { text: "It comes to the same as what is in force: nothing would change." })];
  return [
    changesOf(plan.changes),
    h("ul", { class: "facts" },
      h("li", {}, h("strong", { text: `${plural(plan.slots_moved, "slot")} of ${count(plan.slots)} move` }), h("span", { text: "to another owner" })),
      plan.leaving.length > 0 && h("li", {}, h("strong", { text: `${names(plan.leaving.map((of) => of.host))} leave` }), h("span", { text: "their flows go on to their end" })),
      plan.ending.length > 0 && h("li", {}, h("strong", { text: `${names(plan.ending.map((of) => of.service))} end` }), h("span", { text: `with ${count(plan.ending.reduce((sum, of) => sum + of.live_flows, 0))} live flows` }))),
    ...plan.notes.map((note) => h("p", { class: "muted", text: note })),
  ];
}

/** What differs between two configs, field by field. */
export function changesOf(changes) {
  const mark = { added: "+", removed: "−", changed: "~" };
  const value = (of, kind) => of !== null && h(kind, { class: `value-${kind}`, text: of });
  return h("ul", { class: "changes" }, changes.map((change) => h("li", { class: `change change-${change.change}` },
    h("p", { class: "change-head" }, h("span", { class: "change-mark", "aria-hidden": "true", text: mark[change.change] }),
      h("strong", { text: `${change.part} ${change.name}` }), ` ${change.change}`),
    h("ul", { class: "change-fields" }, change.fields.map((of) => h("li", {}, h("code", { text: of.field }), " ", value(of.from, "del"), of.from !== null && of.to !== null && " → ", value(of.to, "ins")))))));
}

const VERBS = {
  pause: ["Pause", "No further host is begun with; those in work go on."],
  resume: ["Resume", "Hosts are begun with again, in their order."],
  abort: ["Abort", "No further host is begun with, and those in work are taken back. A run that was aborted cannot be resumed."],
};

/** Pauses, resumes or aborts a maintenance run. */
export async function maintain(run, verb) {
  if (!(await needToken())) return;
  const reason = reasonField();
  const [word, about] = VERBS[verb];
  ask({
    title: `${word} run ${run.run}, ${run.name}`,
    verb: `${word} run ${run.run}`,
    danger: verb === "abort",
    first: reason.input,
    body: [
      h("p", { class: "lead", text: about }),
      h("ul", { class: "facts" },
        h("li", {}, h("strong", { text: plural(run.in_work, "host") }), h("span", { text: `in work: ${names(run.hosts.filter((host) => !["waiting", "done", "returned", "failed", "untouched"].includes(host.step)).map((host) => host.host)) || "none"}` })),
        h("li", {}, h("strong", { text: plural(run.waiting, "host") }), h("span", { text: "to come" })),
        h("li", {}, h("strong", { text: plural(run.done, "host") }), h("span", { text: "done" }))),
      reason.element,
    ],
    act: async () => {
      const now = await post(`/v1/maintain/${run.run}/${verb}`, { reason: or(reason.input.value) });
      return `Run ${run.run} is ${now.state}`;
    },
  });
}
