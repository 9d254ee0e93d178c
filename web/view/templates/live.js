// Fetches the changing part of the live page every two seconds; without it the page reloads as a whole.
"use strict";
const part = document.getElementById("live");
const every = 2000;
async function look() {
  // What a person is in the middle of is not taken from under their hands, and nobody looks at a hidden page.
  if (!document.hidden && !part.contains(document.activeElement)) {
    try {
      const answer = await fetch("/live/part", { credentials: "same-origin", signal: AbortSignal.timeout(5 * every) });
      if (answer.redirected) location.reload();
      else if (answer.ok) part.innerHTML = await answer.text();
    } catch (error) {
      part.querySelector(".kind").textContent = "The server does not answer.";
    }
  }
  setTimeout(look, every);
}
setTimeout(look, every);
