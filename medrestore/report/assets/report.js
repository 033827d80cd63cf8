"use strict";
// The table of cases: sort by a column, filter by text and choice. Without this, the table is still whole.
(() => {
  const table = document.getElementById("cases");
  const body = table.tBodies[0];
  const find = document.getElementById("find");
  const choices = [...document.querySelectorAll("select[data-key]")];
  const shown = document.getElementById("shown");
  const rows = [...body.rows];
  const texts = new Map(rows.map((row) => [row, row.textContent.toLowerCase()]));
  const total = rows.length;

  function filter() {
    const words = find.value.toLowerCase().split(/\s+/).filter(Boolean);
    let visible = 0;
    for (const row of rows) {
      row.hidden =
        !words.every((word) => texts.get(row).includes(word)) ||
        !choices.every((choice) => !choice.value || row.dataset[choice.dataset.key] === choice.value);
      visible += !row.hidden;
    }
    shown.textContent = visible === total ? "" : `${visible} of ${total} cases`;
  }

  function sort(button) {
    const head = button.closest("th");
    const direction = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
    for (const other of table.tHead.rows[0].cells) {
      if (other.hasAttribute("aria-sort")) other.setAttribute("aria-sort", "none");
    }
    head.setAttribute("aria-sort", direction > 0 ? "ascending" : "descending");
    const value = (row) => row.cells[button.dataset.column].dataset.value;
    const numeric = rows.every((row) => value(row) === undefined || !Number.isNaN(Number(value(row))));
    const order = new Intl.Collator(undefined, { numeric: true });
    rows.sort((one, two) => {
      const [a, b] = [value(one), value(two)];
      // What is missing stays at the end, whichever way is up.
      if (a === undefined || b === undefined) return (a === undefined) - (b === undefined);
      return direction * (numeric ? a - b : order.compare(a, b));
    });
    body.append(...rows);
  }

  table.tHead.addEventListener("click", (event) => {
    if (event.target.matches("button")) sort(event.target);
  });
  find.addEventListener("input", filter);
  choices.forEach((choice) => choice.addEventListener("change", filter));
  filter();
})();
