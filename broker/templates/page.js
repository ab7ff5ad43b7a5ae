// The page as it is sent says everything; this keeps it new. What has changed is asked for as a whole page, and put in its place part by part.
"use strict";

const PERIOD_MS = 10000; // Ages grow also when nothing happens.
const link = document.getElementById("link");
let busy = false, again = false;

// What somebody has opened, or is about to use, stays as it is.
function inUse(part) {
  const selection = document.getSelection();
  return part.contains(document.activeElement) && document.activeElement !== document.body
    || selection && !selection.isCollapsed && part.contains(selection.anchorNode);
}

function put(part, fresh) {
  const closed = new Set([...part.querySelectorAll("details")].filter((of) => !of.open).map((of) => of.id));
  if (part.innerHTML === fresh.innerHTML) return;
  if (inUse(part)) { again = true; return; }
  part.replaceChildren(...fresh.childNodes);
  for (const of of part.querySelectorAll("details[id]")) if (closed.has(of.id)) of.open = false;
}

async function look() {
  if (busy) { again = true; return; }
  busy = true;
  again = false;
  try {
    const answer = await fetch(location.href, { credentials: "same-origin", cache: "no-store" });
    if (answer.redirected) { location.reload(); return; }
    if (!answer.ok) throw new Error(answer.status);
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    const parts = [...document.querySelectorAll("[data-live]")], freshParts = [...fresh.querySelectorAll("[data-live]")];
    if (parts.map((of) => of.id).join() !== freshParts.map((of) => of.id).join()) {
      // Another app or a newcomer: the page has other parts now.
      document.getElementById("content").replaceChildren(...fresh.getElementById("content").childNodes);
    } else {
      parts.forEach((part, at) => put(part, freshParts[at]));
    }
    document.title = fresh.title;
    link.textContent = "";
  } catch {
    link.textContent = "the broker does not answer; ";
  } finally {
    busy = false;
  }
  document.documentElement.dataset.looked = String(Number(document.documentElement.dataset.looked || 0) + 1);
}

// Where as many listen as may, the period alone has to do.
const events = new EventSource("/live");
events.onmessage = look;
setInterval(() => { if (!document.hidden) look(); }, PERIOD_MS);
document.addEventListener("visibilitychange", () => { if (!document.hidden) look(); });
document.addEventListener("focusout", () => { if (again) look(); });
