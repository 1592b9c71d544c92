"use strict";
// Airflow's frame may neither leave itself nor open windows, so the page around it follows the links.
document.addEventListener("click", (event) => {
  const link = event.target.closest("a[target=_top]");
  if (!link || window.parent === window) return;
  event.preventDefault();
  const outside = window.parent.document.createElement("a");
  outside.href = link.getAttribute("href") ?? "";
  if (event.ctrlKey || event.metaKey) outside.target = "_blank";
  outside.click();
});
// Fetch the page again and put its content in place of the old, with what the reader has unfolded.
const refresh = async () => {
  if (document.hidden) return;
  try {
    const answer = await fetch(window.location.href, { headers: { Accept: "text/html" } });
    if (answer.redirected) return window.location.reload();
    if (!answer.ok) throw new Error(answer.statusText);
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").querySelector("main");
    for (const open of document.querySelectorAll("details[open]")) {
      const same = fresh.querySelector(`details[id="${CSS.escape(open.id)}"]`);
      if (same) same.open = true;
    }
    document.querySelector("main").replaceWith(document.adoptNode(fresh));
    document.getElementById("stale").hidden = true;
  } catch {
    document.getElementById("stale").hidden = false;
  }
};
window.setInterval(refresh, 10000);
