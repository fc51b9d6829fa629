// An answer that is asked for again and again while a view that shows it is open and seen.

import { get } from "./api.js";

/** `take(answer)` and `fail(error)`; asks again after so many milliseconds, or at once by `again()`. */
export function watch(path, every, take, fail) {
  const controller = new AbortController();
  let timer = null;
  let isAsking = false;
  async function ask() {
    clearTimeout(timer);
    if (isAsking || controller.signal.aborted) return;
    isAsking = true;
    try {
      const answer = await get(path, controller.signal);
      if (!controller.signal.aborted) take(answer);
    } catch (error) {
      if (error.name !== "AbortError") fail(error);
    } finally {
      isAsking = false;
      if (every && !controller.signal.aborted) timer = setTimeout(document.hidden ? later : ask, every);
    }
  }
  function later() {
    timer = setTimeout(document.hidden ? later : ask, every);
  }
  ask();
  return {
    again: ask,
    close() {
      clearTimeout(timer);
      controller.abort();
    },
  };
}
