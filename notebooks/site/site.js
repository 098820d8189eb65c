/* What every page does: the switch of language keeps the place, what can be scrolled can be reached by keys, and paper
   shows what is folded. */
(function () {
  "use strict";

  /** The anchor, the same in both languages, of the last section that begins in the window's upper third. */
  function place() {
    const marks = [...document.querySelectorAll('article span[id^="section-"]')];
    const above = marks.filter((mark) => mark.getBoundingClientRect().top < innerHeight / 3);
    return above.length > 1 ? "#" + above[above.length - 1].id : ""; // the first section is the page itself
  }

  function keepPlace() {
    const link = document.querySelector(".page-tools .language");
    const page = link && link.getAttribute("href");
    const lead = () => link.setAttribute("href", page + place());
    if (link) ["pointerdown", "focus", "mouseenter"].forEach((event) => link.addEventListener(event, lead));
  }

  /** Code, formulas and tables that are wider than their place can be focused, and then scrolled by the arrow keys. */
  function reach() {
    for (const box of document.querySelectorAll("article pre, article .math-block, article .table-wrapper")) {
      if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
      else box.removeAttribute("tabindex");
    }
  }

  /** On a phone the cells of a row of sentences stand below one another, and say what they are. */
  function nameCells() {
    for (const table of document.querySelectorAll("article table.sentences")) {
      const heads = [...table.querySelectorAll("thead th")].map((head) => head.textContent);
      for (const row of table.tBodies[0].rows)
        [...row.cells].forEach((cell, column) => (cell.dataset.head = heads[column]));
    }
  }

  /** A button that copies the code beside it, where the browser lets a page do so. */
  function offerCopies() {
    if (!navigator.clipboard) return;
    const [copy, copied] = document.documentElement.lang === "ja" ? ["コピー", "コピー済み"] : ["Copy", "Copied"];
    for (const code of document.querySelectorAll("article .highlight:not(.cell_output *) > pre")) {
      const button = document.createElement("button");
      button.type = "button";
      button.className = "copy";
      button.textContent = copy;
      button.addEventListener("click", async () => {
        await navigator.clipboard.writeText(code.textContent);
        button.textContent = copied;
        setTimeout(() => (button.textContent = copy), 2000);
      });
      code.after(button);
    }
  }

  /** The theme opens its drawers by labels, which keys do not reach. */
  function openByKeys() {
    for (const label of document.querySelectorAll("label.nav-overlay-icon, label.toc-overlay-icon")) {
      label.tabIndex = 0;
      label.setAttribute("role", "button");
      label.setAttribute("aria-label", document.getElementById(label.htmlFor).getAttribute("aria-label"));
      label.addEventListener("keydown", (event) => {
        if (event.key !== "Enter" && event.key !== " ") return;
        event.preventDefault();
        label.click();
      });
    }
  }

  const folded = () => document.querySelectorAll("article details:not([open])");
  let opened = [];
  addEventListener("beforeprint", () => {
    opened = [...folded()];
    opened.forEach((each) => (each.open = true));
  });
  addEventListener("afterprint", () => opened.forEach((each) => (each.open = false)));

  // Searching reads snippets of the pages that it found, which a page opened as a file may not.
  if (location.protocol === "file:") DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;

  addEventListener("load", reach);
  addEventListener("resize", reach);
  document.addEventListener("toggle", reach, true);
  keepPlace();
  nameCells();
  offerCopies();
  openByKeys();
})();
