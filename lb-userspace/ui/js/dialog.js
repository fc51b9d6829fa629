// Questions before something is changed. `<dialog>` keeps the focus in, and gives it back.

import { ApiError } from "./api.js";
import { h } from "./dom.js";

const toasts = document.getElementById("toasts");

/** A short word of what was done; read out when the screen reader is free. */
export function toast(text, kind = "done") {
  const element = h("p", { class: `toast toast-${kind}`, text });
  toasts.append(element);
  while (toasts.children.length > 4) toasts.firstElementChild.remove();
  setTimeout(() => element.remove(), kind === "done" ? 8000 : 15000);
}

/** Why something was refused, with what to do. */
export function refusal(error) {
  const rules = (error.rules ?? []).map((rule) => h("li", {}, h("strong", { text: rule.message }), ` ${rule.mend}`));
  return h("div", { class: "refusal", role: "alert" },
    h("p", {}, h("strong", { text: error.message })),
    rules.length > 0 && h("ul", {}, rules),
    error.hint && h("p", { text: error.hint }));
}

/**
 * Asks, and calls `act` when it is meant; closes when that is done, else shows why not. `body`: elements, `act()` gives the words for the toast,
 * or false to stay open.
 */
export function ask({ title, body, verb, danger = false, act, extra = null, first = null }) {
  const trouble = h("div", { class: "trouble" });
  const go = h("button", { type: "submit", class: danger ? "primary danger" : "primary", text: verb });
  const cancel = h("button", { type: "button", text: "Cancel", onclick: () => dialog.close() });
  const form = h("form", { method: "dialog" },
    h("h2", { id: "ask-title", text: title }), h("div", { class: "ask-body" }, body), trouble,
    h("div", { class: "ask-acts" }, extra, cancel, go));
  const dialog = h("dialog", { class: "ask", "aria-labelledby": "ask-title" }, form);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (go.disabled) return;
    go.disabled = true;
    form.setAttribute("aria-busy", "true");
    trouble.replaceChildren();
    try {
      const said = await act();
      if (said === false) return;
      dialog.close();
      if (said) toast(said);
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      trouble.replaceChildren(refusal(error));
      dialog.dispatchEvent(new CustomEvent("refused", { detail: error }));
    } finally {
      go.disabled = false;
      form.removeAttribute("aria-busy");
    }
  });
  const opener = document.activeElement;
  const around = opener?.closest("td, article, .page-head, .acts, .bulk");
  dialog.addEventListener("close", () => {
    dialog.remove();
    // What was pressed may have gone meanwhile.
    if (!opener?.isConnected) (around?.querySelector("button, a") ?? document.querySelector("h1"))?.focus();
  });
  document.body.append(dialog);
  dialog.showModal();
  (first ?? form.querySelector("input, select, textarea") ?? go).focus();
  return { dialog, go, form, trouble };
}

let fields = 0;

/** A labelled field of a form. */
export function field(label, input, hint = null) {
  fields += 1;
  input.id ||= `field-${fields}`;
  const about = hint && h("small", { id: `${input.id}-hint`, text: hint });
  if (about) input.setAttribute("aria-describedby", about.id);
  return h("div", { class: "field" }, h("label", { for: input.id, text: label }), input, about);
}
