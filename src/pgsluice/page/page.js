"use strict";
(() => {
  const wanted = { text: "" };

  /* Shows the tables whose line has what is typed. */
  function filter() {
    const rows = [...document.querySelectorAll("#list tr")];
    const text = wanted.text.trim().toLowerCase();
    const shown = rows.filter((row) => {
      row.hidden = !row.textContent.toLowerCase().includes(text);
      return !row.hidden;
    });
    const told = document.getElementById("shown");
    if (told) told.textContent = text ? `${shown.length} of ${rows.length}` : "";
  }

  function begin() {
    const input = document.getElementById("filter");
    if (!input) return;
    input.closest("p").hidden = false;
    input.value = wanted.text;
    input.addEventListener("input", () => {
      wanted.text = input.value;
      filter();
    });
    filter();
  }

  /* Takes what has changed; what is open, typed and focused stays so. */
  async function again() {
    const stale = document.getElementById("stale");
    try {
      const answer = await fetch(location.href, { cache: "no-store" });
      if (!answer.ok) throw new Error(answer.status);
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      document.querySelector("header time").textContent = page.querySelector("header time").textContent;
      stale.hidden = true;
      const main = document.getElementById("main");
      if (main.contains(document.activeElement) && document.activeElement.id === "filter") return;
      const open = [...main.querySelectorAll("details")].map((each) => each.open);
      page.querySelectorAll("main details").forEach((each, number) => {
        if (number < open.length) each.open = open[number];
      });
      main.replaceChildren(...page.getElementById("main").childNodes);
      begin();
    } catch {
      stale.hidden = false;
    }
  }

  begin();
  if ("live" in document.body.dataset) setInterval(again, 5000);
})();
