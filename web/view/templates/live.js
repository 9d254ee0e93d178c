// Fetches the changing part of the live page every two seconds; without it the page reloads as a whole.
"use strict";
const part = document.getElementById("live");
async function look() {
  try {
    const answer = await fetch("/live/part", { credentials: "same-origin" });
    if (answer.ok) part.innerHTML = await answer.text();
  } catch (error) {
    part.querySelector(".kind").textContent = "The server does not answer.";
  }
  setTimeout(look, 2000);
}
setTimeout(look, 2000);
