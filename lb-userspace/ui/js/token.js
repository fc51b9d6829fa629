// The token: asked for when something is to be changed, or where even a look takes one.

import { hasToken, setToken, tokenName } from "./api.js";
import { ask, field, toast } from "./dialog.js";
import { h } from "./dom.js";

let name = null;

/** Of the token that is in use, if its name is known. */
export const whoami = () => name;

/** What the daemon says of the token that this tab has kept. */
export async function remember(token) {
  name = await tokenName(token);
}

/** Asks for a token; resolves whether there is one then. */
export function askForToken(why) {
  return new Promise((resolve) => {
    const input = h("input", { type: "password", autocomplete: "off", spellcheck: "false", required: true });
    const { dialog } = ask({
      title: "Unlock changes",
      verb: "Unlock",
      first: input,
      body: [
        h("p", { text: why }),
        field("Token", input, "A line of the token file on the balancer is NAME TOKEN; the daemon names the file in its log. This tab forgets it when it is closed."),
      ],
      act: async () => {
        const token = input.value.trim().split(/\s+/).at(-1);
        name = await tokenName(token);
        setToken(token);
        return `Changes are unlocked, as web:${name}`;
      },
    });
    dialog.addEventListener("close", () => resolve(hasToken()));
  });
}

/** Asks for a token unless there is one. */
export async function needToken() {
  return hasToken() || askForToken("Whoever changes something shows a token first.");
}

export function forget() {
  name = null;
  setToken(null);
  toast("Changes are locked again");
}
